"""A training loop without Ray, and a small world in which taste, place and habit can be learned."""

from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pytest
import torch
from torch import nn

from lgsid_ray.artifacts import Sids, Trie
from lgsid_ray.artifacts.sids import unique_tokens
from lgsid_ray.config.recommend import (
    SIDLESS,
    GenerateCell,
    GenerateConfig,
    Generator,
    RankCell,
    RankConfig,
    RankerConfig,
)
from lgsid_ray.execution.stage import Cell
from lgsid_ray.execution.storage import StageDir
from lgsid_ray.recommend.batches import Batches, order
from lgsid_ray.recommend.fitting import Schedule, calibrate
from lgsid_ray.recommend.log import TEST, TRAIN, VALID, Log
from lgsid_ray.recommend.panel import Panel

ITEMS, TASTES = 60, 4
Fit = Callable[[RankConfig | GenerateConfig, Panel, Batches], Schedule]
Cells = Callable[..., list[Cell]]


@pytest.fixture(scope="session")
def plain_fit() -> Fit:
    """The stage's loop on one process: same order, same rates, AdamW; every member clipped by itself."""

    def fit(section: RankConfig | GenerateConfig, panel: Panel, batches: Batches) -> Schedule:
        torch.manual_seed(0)
        schedule = Schedule(len(batches.train), section.batch_size, section.epochs, seed=0)
        matrices = {"params": [p for p in panel.parameters() if p.ndim > 1], "weight_decay": section.weight_decay}
        vectors = {"params": [p for p in panel.parameters() if p.ndim < 2], "weight_decay": 0.0}
        optimiser = torch.optim.AdamW([matrices, vectors])
        panel.train()
        for number in range(schedule.steps):
            for group in optimiser.param_groups:
                group["lr"] = section.learning_rate * schedule.scale(number)
            shuffled = order(batches.train, schedule.seed, number // schedule.epoch_steps)
            rows = schedule.share(shuffled, number, rank=0, workers=1)
            optimiser.zero_grad()
            losses = panel(batches.batch(rows), number)
            sum(loss for parts in losses.values() for loss in parts.values()).backward()
            for member in panel.members.values():
                nn.utils.clip_grad_norm_(member.parameters(), section.clip)
            optimiser.step()
        calibrate(panel, batches)
        return schedule

    return fit


@pytest.fixture(scope="session")
def xyz() -> np.ndarray:
    """Items on a circle."""
    angle = np.linspace(0, 3, ITEMS)
    return np.column_stack([np.cos(angle), np.sin(angle), np.zeros(ITEMS)])


def write_sids(folder: StageDir, tokens: np.ndarray, collision: np.ndarray) -> StageDir:
    """What others read of a tokenise stage: SIDs and their trie."""
    index = np.arange(len(tokens))
    ids = [f"i{item}" for item in index]
    columns = {"item_index": index, "item_id": ids, "tokens": tokens.tolist(), "collision": collision, "sid": ids}
    Sids(folder).write(pa.table(columns))
    Trie.build(unique_tokens(tokens, collision)).save(folder)
    return folder


@pytest.fixture(scope="session")
def tokenise(tmp_path_factory: pytest.TempPathFactory) -> StageDir:
    """SIDs whose first token is the item's taste, the rest tell them apart."""
    index = np.arange(ITEMS)
    tokens = np.column_stack([index % TASTES, index // TASTES % 5])
    return write_sids(StageDir(str(tmp_path_factory.mktemp("tokenise"))), tokens, index // (TASTES * 5))


@pytest.fixture(scope="session")
def rank_cells(tokenise: StageDir, tmp_path_factory: pytest.TempPathFactory) -> Cells:
    """Cells of a model, without and with SIDs, for some seeds."""
    folder = tmp_path_factory.mktemp("cells")

    def cells(model: RankerConfig, seeds: int = 1) -> list[Cell]:
        arms: list[tuple[str, dict[str, StageDir]]] = [("origin", {}), ("hgit", {"tokenise": tokenise})]
        kind = model.kind  # type: ignore[attr-defined]
        return [
            Cell(
                f"rank/{kind}/{arm}/{k}",
                RankCell(model=model, seed=k),
                inputs,
                StageDir(f"{folder}/{kind}-{arm}-{k}").make(),
            )
            for arm, inputs in arms
            for k in range(seeds)
        ]

    return cells


@pytest.fixture(scope="session")
def generate_cells(tokenise: StageDir) -> Cells:
    """Cells of a model for some seeds; they write nothing."""

    def cells(model: Generator, seeds: int = 1) -> list[Cell]:
        inputs = {} if model.kind in SIDLESS else {"tokenise": tokenise}
        return [
            Cell(f"generate/{model.kind}/arm/{k}", GenerateCell(model=model, seed=k), inputs, StageDir("nowhere"))
            for k in range(seeds)
        ]

    return cells


def panel_of(experiment: object, cells: list[Cell], seed: int = 0) -> Panel:
    """The cells' models side by side."""
    return Panel(experiment.members(cells), {cell.name: seed * 1000 + cell.settings.seed for cell in cells})  # type: ignore[attr-defined]


@pytest.fixture(scope="session")
def clicks() -> Log:
    """Impressions of random items: users click what is to their taste."""
    rng = np.random.default_rng(0)
    users, shown = 80, 60
    user = np.repeat(np.arange(users, dtype=np.int32), shown)
    item = rng.integers(0, ITEMS, len(user))
    label = (item % TASTES == user % TASTES).astype(float)
    place = np.tile(np.arange(shown), users)
    split = np.where(place < 40, TRAIN, np.where(place < 50, VALID, TEST)).astype(np.int8)
    return Log(user, item, place * 60, label, split, np.full(len(user), -1, dtype=np.int8), "impressions", True)


@pytest.fixture(scope="session")
def chain() -> Log:
    """Visits along a fixed walk through all items, users starting anywhere: the next item follows from the last."""
    rng = np.random.default_rng(0)
    walk = rng.permutation(ITEMS)
    users, steps = 120, 12
    start = rng.integers(0, ITEMS, users)
    item = np.array([[walk[(first + step) % ITEMS] for step in range(steps)] for first in start]).ravel()
    user = np.repeat(np.arange(users, dtype=np.int32), steps)
    place = np.tile(np.arange(steps), users)
    split = np.where(place < steps - 2, TRAIN, np.where(place < steps - 1, VALID, TEST)).astype(np.int8)
    return Log(user, item, place * 60, np.ones(len(user)), split, split, "visits", True)
