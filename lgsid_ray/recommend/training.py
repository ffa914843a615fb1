"""Cells trained side by side in one worker group, whose results lie apart, each in its cell's own folder."""

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache, partial
from typing import Any, Protocol

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, nn

from lgsid_ray.config.recommend import GenerateConfig, RankConfig
from lgsid_ray.errors import StorageError
from lgsid_ray.execution.engine import Engine, weights_of
from lgsid_ray.execution.stage import Cell, Facts
from lgsid_ray.execution.storage import SCRATCH, StageDir
from lgsid_ray.execution.train import fit, train_steps
from lgsid_ray.recommend.batches import Batches, moved, order
from lgsid_ray.recommend.checkpoint import write_weights
from lgsid_ray.recommend.fitting import Best, Schedule, curve
from lgsid_ray.recommend.panel import Panel

HISTORY, METRICS = "history.json", "metrics.json"
"""What a cell's folder holds beside its weights; the last is written last, so that with it all of them are whole."""
_TOGETHER = f"{SCRATCH}/cells.json"


class Experiment(Protocol):
    """What a family of models brings to its training."""

    def members(self, cells: Sequence[Cell]) -> Mapping[str, Callable[[], nn.Module]]:
        """How to build each cell's model, by the cell's name; picklable."""

    def batches(self, cells: Sequence[Cell]) -> Batches:
        """With the fields that any of the cells' models needs."""

    def judge(self, cell: Cell, model: nn.Module) -> dict[str, Any]:
        """Figures of the cell's trained model on valid and test."""

    def label(self, cell: Cell) -> dict[str, str]:
        """What the cell's weights are of: see `checkpoint.label`."""


def train_cells(
    experiment: Experiment, section: RankConfig | GenerateConfig, seed: int, cells: Sequence[Cell]
) -> list[Facts]:
    """Train and judge what is missing of the cells; each folder gets weights, history and metrics.

    The state of the training lies in the first cell's folder until that cell is finished.
    """
    together = _together(cells)
    if together:
        schedule, best, history = _fit(experiment, section, seed, together, cells[0].out)
        for cell in together:
            if not cell.out.exists(METRICS):
                metrics = experiment.judge(cell, best.panel.members[cell.name])
                write_weights(cell.out, best.weights[cell.name], experiment.label(cell))
                cell.out.write_json(HISTORY, curve(cell.name, history, best.losses, schedule))
                cell.out.write_json(METRICS, metrics | {"best_epoch": best.epochs[cell.name]})
    return [cell.out.read_json(METRICS) for cell in cells]


def skip(out: StageDir, reason: str) -> Facts:
    """A stage or cell that the log has nothing for says so and ends."""
    out.write_json(HISTORY, [])
    out.write_json(METRICS, {"skipped": reason})
    return {"skipped": reason}


def _together(cells: Sequence[Cell]) -> list[Cell]:
    """The cells to train in one panel; none where all stand whole.

    After a kill they are those of the killed call, also the ones that stand whole: its state is theirs as well.
    """
    known, home = {cell.out.uri: cell for cell in cells}, cells[0].out
    missing = [uri for uri, cell in known.items() if not cell.out.exists(METRICS)]
    if not missing:
        return []
    before = home.read_json(_TOGETHER) if home.exists(_TOGETHER) else []
    if not set(missing) <= set(before) <= set(known):
        home.remove(SCRATCH)
        home.write_json(_TOGETHER, missing)
        before = missing
    return [known[uri] for uri in before]


def _fit(
    experiment: Experiment, section: RankConfig | GenerateConfig, seed: int, cells: Sequence[Cell], home: StageDir
) -> tuple[Schedule, Best, list[dict[str, float]]]:
    """Train the panel on Ray Train and choose every member's epoch."""
    batches = experiment.batches(cells)
    seeds = {cell.name: seed * 1000 + cell.settings.seed for cell in cells}
    build = partial(Panel, experiment.members(cells), seeds)
    schedule = Schedule(len(batches.train), section.batch_size, section.epochs, seed)
    task = {"build": build, "batches": batches, "schedule": schedule, "section": section, "home": home}
    trained = fit(_loop, task, section.trainer, home)
    best = Best(build(), batches)
    for epoch in range(1, section.epochs):
        best.see(_read_snapshot(home, epoch), home.path(_snapshot(epoch)))
    best.see(trained.weights, home.path(SCRATCH))
    best.settle()
    return schedule, best, trained.history


def _loop(task: dict[str, Any]) -> None:
    """On every worker: the panel's steps, and a snapshot of the weights after each epoch but the last."""
    batches: Batches = task["batches"]
    panel: Panel = task["build"]()
    schedule: Schedule = task["schedule"]
    section, home = task["section"], task["home"]
    engine = Engine(
        panel, section.learning_rate, section.weight_decay, section.trainer.zero_stage, section.clip, panel.prefixes
    )
    rank, workers = torch.distributed.get_rank(), torch.distributed.get_world_size()
    shuffled = lru_cache(maxsize=1)(partial(order, batches.train, schedule.seed))  # once an epoch

    def step(number: int) -> tuple[Tensor, dict[str, float]]:
        ended = schedule.ended_epoch(number)
        if ended:
            _take_snapshot(engine, home, ended, writes=rank == 0)
        rows = schedule.share(shuffled(number // schedule.epoch_steps), number, rank, workers)
        panel.train()
        found = engine.model(moved(batches.batch(rows), engine.device), number, rank)
        losses = {f"{name}/{part}": loss for name, parts in found.items() for part, loss in parts.items()}
        each = torch.stack(list(losses.values()))
        return each.sum(), dict(zip(losses, each.tolist(), strict=True))

    train_steps(engine, schedule.steps, step, section.trainer.checkpoint_steps, schedule.seed, schedule.scale)


def _take_snapshot(engine: Engine, home: StageDir, epoch: int, writes: bool) -> None:
    state = engine.state()  # collective: every rank takes part
    if writes:
        with home.write(_snapshot(epoch)) as file:
            file.write(save(weights_of(state)))


def _read_snapshot(home: StageDir, epoch: int) -> dict[str, Tensor]:
    try:
        return load(home.read(_snapshot(epoch)))
    except SafetensorError as error:
        raise StorageError(
            f"{home.path(_snapshot(epoch))} is corrupt ({error}); delete {home.root} and run again"
        ) from None


def _snapshot(epoch: int) -> str:
    return f"{SCRATCH}/epochs/{epoch:04d}.safetensors"
