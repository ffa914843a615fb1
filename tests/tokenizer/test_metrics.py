"""Usage, perplexity, divergence, collisions and reconstruction on known answers and against loops."""

from collections import Counter
from dataclasses import asdict

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lgsid_ray.tokenizer.levels import on_embeddings
from lgsid_ray.tokenizer.metrics import Errors, collision_metrics, level_metrics, levels_metrics, tokenizer_metrics
from lgsid_ray.tokenizer.tokenizer import Tokenizer


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
def test_collision_metrics_against_a_loop(codes: list[int]) -> None:
    held = Counter(codes)
    found = collision_metrics(Counter(held.values()))
    assert found["items"] == len(codes)
    assert found["distinct_sids"] == len(held)
    assert found["collision_rate"] == pytest.approx(sum(held[code] > 1 for code in codes) / len(codes))
    assert found["sid_collision_rate"] == pytest.approx(sum(count > 1 for count in held.values()) / len(held))
    assert found["max_items_per_sid"] == max(held.values())


def test_collisions_on_known_answers() -> None:
    found = collision_metrics({3: 1, 1: 2})
    assert found == {
        "items": 5,
        "distinct_sids": 3,
        "collision_rate": 0.6,
        "sid_collision_rate": pytest.approx(1 / 3),
        "max_items_per_sid": 3,
    }


def test_errors_of_parts_add_up_and_are_relative_to_the_variance() -> None:
    rng = np.random.default_rng(0)
    embeddings = (3 + rng.standard_normal((90, 4))).astype(np.float32)
    codes = [on_embeddings(rng.standard_normal((size, 4)).astype(np.float32)) for size in (5, 3)]
    tokens = np.stack([rng.integers(0, 5, 90), rng.integers(0, 3, 90)], axis=1).astype(np.int32)
    cuts = [slice(0, 1), slice(1, 50), slice(50, 90)]
    tokenizer = Tokenizer("res_kmeans", tuple(codes))
    errors = np.sum([Errors.of(tokenizer, embeddings[cut], tokens[cut]) for cut in cuts])
    errors = Errors(**asdict(errors))
    levels = levels_metrics(
        [np.bincount(column, minlength=size) for column, size in zip(tokens.T, (5, 3), strict=True)], errors
    )
    held = Counter(Counter(map(tuple, tokens.tolist())).values())
    found = tokenizer_metrics(levels, held, errors)
    rest = embeddings - codes[0].centres[tokens[:, 0]]
    variance = np.square(embeddings - embeddings.mean(axis=0)).sum()
    assert found["levels"][0]["relative_error"] == pytest.approx(np.square(rest).sum() / variance, rel=1e-5)
    rest = rest - codes[1].centres[tokens[:, 1]]
    assert found["relative_error"] == pytest.approx(np.square(rest).sum() / variance, rel=1e-5)
    assert found["reconstruction_error"] == pytest.approx(np.square(rest).sum(axis=1).mean(), rel=1e-5)
    assert [level["size"] for level in found["levels"]] == [5, 3]
    assert found["distinct_sids"] == len({tuple(row) for row in tokens.tolist()})


def test_embeddings_that_are_all_alike_have_no_relative_error() -> None:
    tokenizer = Tokenizer("res_kmeans", (on_embeddings(np.zeros((1, 2), np.float32)),))
    tokens = np.zeros((4, 1), np.int32)
    errors = Errors.of(tokenizer, np.zeros((4, 2), np.float32), tokens)
    assert levels_metrics([np.array([4])], errors)[0]["relative_error"] == 0
