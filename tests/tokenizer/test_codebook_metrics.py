"""Usage, perplexity, divergence and collisions on known answers and against loops."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lgsid_ray.tokenizer.metrics import collision_metrics, collision_ranks, level_metrics


@pytest.mark.parametrize(
    ("counts", "usage", "perplexity", "kl"),
    [
        ([10, 10, 10, 10], 1.0, 4.0, 0.0),
        ([8, 0, 0, 0], 0.25, 1.0, np.log(4)),
        ([5, 5, 0, 0], 0.5, 2.0, np.log(2)),
        ([2, 1, 1, 0], 0.75, 2**1.5, np.log(4) - 1.5 * np.log(2)),
        ([3], 1.0, 1.0, 0.0),
    ],
)
def test_usage_perplexity_and_divergence_on_known_answers(
    counts: list[int], usage: float, perplexity: float, kl: float
) -> None:
    found = level_metrics(np.array(counts))
    assert found["size"] == len(counts)
    assert found["usage"] == usage
    assert found["perplexity"] == pytest.approx(perplexity)
    assert found["kl"] == pytest.approx(kl, abs=1e-12)


def test_perplexity_is_that_of_the_whole_set_not_a_mean_over_batches() -> None:
    left, right = np.array([6, 0]), np.array([0, 6])
    assert level_metrics(left + right)["perplexity"] == pytest.approx(2)
    assert level_metrics(left)["perplexity"] == pytest.approx(1) == level_metrics(right)["perplexity"]


@given(st.lists(st.integers(0, 5), min_size=1, max_size=40))
def test_collision_ranks_against_a_loop(codes: list[int]) -> None:
    seen: Counter[int] = Counter()
    expected = []
    for code in codes:
        expected.append(seen[code])
        seen[code] += 1
    assert collision_ranks(np.array(codes)).tolist() == expected


@given(st.lists(st.integers(0, 5), min_size=1, max_size=40))
def test_collision_metrics_against_a_loop(codes: list[int]) -> None:
    held = Counter(codes)
    found = collision_metrics(np.array(codes))
    assert found["items"] == len(codes)
    assert found["distinct_sids"] == len(held)
    assert found["collision_rate"] == pytest.approx(sum(held[code] > 1 for code in codes) / len(codes))
    assert found["sid_collision_rate"] == pytest.approx(sum(count > 1 for count in held.values()) / len(held))
    assert found["max_items_per_sid"] == max(held.values())
    assert found["max_items_per_sid"] == collision_ranks(np.array(codes)).max() + 1


def test_collisions_on_known_answers() -> None:
    found = collision_metrics(np.array([7, 7, 7, 1, 2]))
    assert found == {
        "items": 5,
        "distinct_sids": 3,
        "collision_rate": 0.6,
        "sid_collision_rate": pytest.approx(1 / 3),
        "max_items_per_sid": 3,
    }
