"""A training loop without Ray, and a small world in which taste, place and habit can be learned."""

from collections.abc import Callable

import numpy as np
import pytest
import torch

from lgsid_ray.config.recommend import GenerateConfig, RankConfig
from lgsid_ray.recommend.batches import Batches
from lgsid_ray.recommend.fitting import Schedule, Shuffles, calibrate
from lgsid_ray.recommend.inputs import Items
from lgsid_ray.recommend.log import TEST, TRAIN, VALID, Log
from lgsid_ray.recommend.panel import Panel

ITEMS, TASTES = 60, 4
Fit = Callable[[RankConfig | GenerateConfig, Panel, Batches], Schedule]


@pytest.fixture(scope="session")
def plain_fit() -> Fit:
    """The stage's loop on one process: same order, same rates, AdamW."""

    def fit(section: RankConfig | GenerateConfig, panel: Panel, batches: Batches) -> Schedule:
        torch.manual_seed(0)
        schedule = Schedule(len(batches.train), section.batch_size, section.epochs, seed=0)
        shuffles = Shuffles(batches.train, schedule.seed)
        optimiser = torch.optim.AdamW(panel.parameters(), lr=section.learning_rate, weight_decay=section.weight_decay)
        panel.train()
        for number in range(schedule.steps):
            optimiser.param_groups[0]["lr"] = section.learning_rate * schedule.scale(number)
            rows = schedule.share(shuffles.of(number // schedule.epoch_steps), number, rank=0, workers=1)
            optimiser.zero_grad()
            panel(*batches.batch(rows)).sum().backward()
            optimiser.step()
        calibrate(panel, batches)
        return schedule

    return fit


@pytest.fixture(scope="session")
def items() -> Items:
    """Items on a circle; the first token is their taste, the rest tell them apart."""
    angle = np.linspace(0, 3, ITEMS)
    xyz = np.column_stack([np.cos(angle), np.sin(angle), np.zeros(ITEMS)])
    index = np.arange(ITEMS)
    tokens = np.column_stack([index % TASTES, index // TASTES % 5])
    return Items(xyz, tokens, index // (TASTES * 5))


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
