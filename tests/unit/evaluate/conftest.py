"""A small seeded space: three provinces, two cities each, two districts each, meaning and geography apart."""

import numpy as np
import pytest

from lgsid_ray.evaluate.space import Space
from lgsid_ray.geo.distance import unit_xyz


def normalise(rows: np.ndarray) -> np.ndarray:
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def make_space(count: int = 240, seed: int = 0, pull: float = 1.0) -> Space:
    """`pull` is how strongly the aligned space moves items towards their district."""
    rng = np.random.default_rng(seed)
    district = rng.integers(0, 12, count)
    labels = np.stack([district // 4, district // 2, district], axis=1)
    centre = rng.uniform([30, -110], [45, -80], (12, 2))
    places = centre[district] + rng.normal(scale=0.05, size=(count, 2))
    topic = rng.normal(size=(15, 24))[rng.integers(0, 15, count)]
    direction = rng.normal(size=(12, 24))[district]
    content = normalise(topic + 0.7 * rng.normal(size=(count, 24)))
    reference = normalise(content + 0.05 * direction)
    aligned = normalise(reference + 0.15 * pull * direction)
    return Space(reference, labels, unit_xyz(places[:, 0], places[:, 1]), aligned, content)


@pytest.fixture
def space() -> Space:
    return make_space()
