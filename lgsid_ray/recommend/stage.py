"""The stages: click prediction and next-item generation with SIDs. The only file of the room that imports Ray."""

from collections.abc import Callable
from functools import partial
from typing import Any

import ray
import torch
from safetensors.torch import load, save

from lgsid_ray.config import RunConfig
from lgsid_ray.config.recommend import GenerateConfig, RankConfig
from lgsid_ray.execution.run import Facts, Inputs
from lgsid_ray.execution.storage import SCRATCH, StageDir
from lgsid_ray.execution.train import Engine, fit, train_steps
from lgsid_ray.recommend.batches import Batches
from lgsid_ray.recommend.fitting import Best, Schedule, Shuffles, curve
from lgsid_ray.recommend.generators import experiment as generation
from lgsid_ray.recommend.generators.sequences import build
from lgsid_ray.recommend.inputs import read_items, read_log
from lgsid_ray.recommend.panel import Panel
from lgsid_ray.recommend.rankers import experiment as ranking

WEIGHTS = "weights.safetensors"


def rank(config: RunConfig, inputs: Inputs, out: StageDir) -> Facts:
    """Train every ranker with and without SIDs and judge it on the time-split test beside trivial baselines.

    Reads catalogue (items, interactions) and tokenise (SIDs). Writes metrics.json, history.json and
    weights.safetensors. Without interactions, or where one class is all there is, it says so and ends.
    """
    section, items, log = config.rank, read_items(inputs), read_log(inputs)
    if log is None:
        return _skip(out, "the catalogue has no interactions")
    samples = ranking.samples(section, items, log, config.seed)
    reason = ranking.unusable(samples)
    if reason:
        return _skip(out, reason)
    best = _train(
        section, partial(ranking.panel, section, items, config.seed), ranking.batches(section, samples), config, out
    )
    metrics = ranking.judge(section, items, log, samples, best.panel)
    return _publish(out, metrics, best)


def generate(config: RunConfig, inputs: Inputs, out: StageDir) -> Facts:
    """Train every generator on SID sequences and judge it, leave-last-out, beside trivial baselines.

    Reads and writes as `rank` does. Without time stamps no order is invented: it says so and ends.
    """
    section, items, log = config.generate, read_items(inputs), read_log(inputs)
    if log is None:
        return _skip(out, "the catalogue has no interactions")
    if not log.timed:
        return _skip(out, "no time stamps: the interactions have no order to continue")
    sequences = build(log)
    reason = generation.unusable(sequences)
    if reason:
        return _skip(out, reason)
    batches = generation.batches(section, sequences, config.seed)
    best = _train(section, partial(generation.panel, section, items, config.seed), batches, config, out)
    metrics = generation.judge(section, items, sequences, best.panel, config.seed)
    return _publish(out, metrics, best)


def _train(
    section: RankConfig | GenerateConfig,
    build_panel: Callable[[], Panel],
    batches: Batches,
    config: RunConfig,
    out: StageDir,
) -> Best:
    """Train the panel on Ray Train and choose every member's epoch; its training curve goes to history.json."""
    schedule = Schedule(len(batches.train), section.batch_size, section.epochs, config.seed)
    settings = {
        "panel": ray.put(build_panel),
        "batches": ray.put(batches),
        "schedule": schedule,
        "section": section,
        "out": out,
    }
    trained = fit(_loop, settings, section.trainer, out)
    best = Best(build_panel(), batches)
    for epoch in range(1, section.epochs):
        best.see(load(out.read(_snapshot(epoch))))
    best.see(trained.weights)
    best.settle()
    out.write_json("history.json", curve(trained.history, best.losses, schedule))
    return best


def _loop(settings: dict[str, Any]) -> None:
    """On every worker: the panel's steps, and a snapshot of the weights after each epoch but the last."""
    batches: Batches = ray.get(settings["batches"])
    panel: Panel = ray.get(settings["panel"])()
    schedule: Schedule = settings["schedule"]
    section, out = settings["section"], settings["out"]
    # No clipping: a bound on the panel's joint norm would let one member's gradient shorten another's step.
    engine = Engine(panel, section.learning_rate, section.weight_decay, section.trainer.zero_stage, clip=0.0)
    position, workers = torch.distributed.get_rank(), torch.distributed.get_world_size()
    shuffles = Shuffles(batches.train, schedule.seed)
    names = list(panel.members)

    def step(number: int) -> tuple[torch.Tensor, dict[str, float]]:
        ended = schedule.ended_epoch(number)
        if ended:
            _take_snapshot(engine, out, ended, writes=position == 0)
        engine.set_learning_rate(schedule.scale(number))
        rows = schedule.share(shuffles.of(number // schedule.epoch_steps), number, position, workers)
        panel.train()
        losses = engine.model(*(part.to(engine.device) for part in batches.batch(rows)))
        return losses.sum(), dict(zip(names, losses.tolist(), strict=True))

    train_steps(engine, schedule.steps, step, section.trainer.checkpoint_steps, schedule.seed)


def _take_snapshot(engine: Engine, out: StageDir, epoch: int, writes: bool) -> None:
    state = engine.state()  # collective: every rank takes part
    if writes:
        weights = {name.removeprefix("weight."): w for name, w in state.items() if name.startswith("weight.")}
        with out.write(_snapshot(epoch)) as file:
            file.write(save(weights))


def _snapshot(epoch: int) -> str:
    return f"{SCRATCH}/epochs/{epoch:04d}.safetensors"


def _skip(out: StageDir, reason: str) -> Facts:
    out.write_json("metrics.json", {"skipped": reason})
    out.write_json("history.json", [])
    return {"skipped": reason}


def _publish(out: StageDir, metrics: dict[str, Any], best: Best) -> Facts:
    metrics["best_epoch"] = best.epochs
    with out.write(WEIGHTS) as file:
        file.write(save(best.weights))
    out.write_json("metrics.json", metrics)
    facts: Facts = metrics.pop("facts")
    return facts
