"""The learnable levels against autograd and torch's Adam; usage and its divergence on known answers."""

import math

import numpy as np
import pytest
import torch

from lgsid_ray.tokenizer import residual as residual_module
from lgsid_ray.tokenizer.residual import Adam, gradient, kl_slope, kl_to_uniform, radii
from lgsid_ray.tokenizer.shard import added

TEMPERATURES = [1.5, 0.8]


def gauss(rows: int, dimension: int, seed: int, scale: float = 1.0) -> np.ndarray:
    return (scale * np.random.default_rng(seed).standard_normal((rows, dimension))).astype(np.float32)


ROWS = gauss(120, 5, 0)
BOOKS = [gauss(7, 5, 1), gauss(4, 5, 2, 0.5)]


def labels_of(rows: np.ndarray, books: list[np.ndarray]) -> list[np.ndarray]:
    """Eq 10-12 by their definition."""
    left, labels = rows.astype(np.float64), []
    for centres in books:
        labels.append(np.square(left[:, None] - centres[None]).sum(axis=2).argmin(axis=1))
        left = left - centres[labels[-1]]
    return labels


def soft_usage(rows: np.ndarray, books: list[torch.Tensor]) -> list[torch.Tensor]:
    """Mean of softmax(-d²/τ) per level; what a level gets from those before it is fixed."""
    left, out = torch.from_numpy(rows).double(), []
    for centres, temperature in zip(books, TEMPERATURES, strict=True):
        distance = (left[:, None] - centres[None]).square().sum(2)
        out.append(torch.softmax(-distance / temperature, 1).mean(0))
        left = left - centres.detach()[distance.argmin(1)]
    return out


def leaves(books: list[np.ndarray]) -> list[torch.Tensor]:
    return [torch.from_numpy(centres).double().requires_grad_() for centres in books]


@pytest.mark.parametrize("block", [25, 16_384])
def test_reconstruction_gradient_is_autograds_with_the_assignment_fixed(
    block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(residual_module, "_BLOCK", block)
    books = leaves(BOOKS)
    chosen = [mu[torch.from_numpy(label)] for mu, label in zip(books, labels_of(ROWS, BOOKS), strict=True)]
    left = [(torch.from_numpy(ROWS).double() - sum(chosen[:last])).square().sum() for last in (1, 2)]
    sum(left).backward()
    found = gradient(ROWS, BOOKS, None, TEMPERATURES)
    assert found.rows == 120
    assert [error.sum() for error in found.errors] == pytest.approx([error.item() for error in left], rel=1e-6)
    for mine, mu in zip(found.recon, books, strict=True):
        np.testing.assert_allclose(mine, mu.grad, atol=1e-4)


@pytest.mark.parametrize("block", [25, 16_384])
def test_usage_gradient_is_autograds_of_the_divergence_of_soft_usage(
    block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(residual_module, "_BLOCK", block)
    books = leaves(BOOKS)
    usage = soft_usage(ROWS, books)
    torch.stack([(p * (p * len(p)).log()).sum() for p in usage]).sum().backward()
    soft = gradient(ROWS, BOOKS, None, TEMPERATURES).soft
    found = gradient(ROWS, BOOKS, [kl_slope(level) for level in soft], TEMPERATURES)
    for level, mu in enumerate(books):
        np.testing.assert_allclose(soft[level] / 120, usage[level].detach(), rtol=1e-4)
        assert mu.grad is not None
        assert mu.grad.abs().max() > 1e-3
        np.testing.assert_allclose(found.usage[level] / 120, mu.grad, atol=1e-5)
        np.testing.assert_allclose(found.recon[level], gradient(ROWS, BOOKS, None, TEMPERATURES).recon[level])


def test_a_step_against_the_usage_gradient_evens_the_usage() -> None:
    before = gradient(ROWS, BOOKS, None, TEMPERATURES).soft
    pull = gradient(ROWS, BOOKS, [kl_slope(level) for level in before], TEMPERATURES).usage
    moved = [(mu - 1e-3 * slope).astype(np.float32) for mu, slope in zip(BOOKS, pull, strict=True)]
    after = gradient(ROWS, moved, None, TEMPERATURES).soft
    assert kl_to_uniform(after[0]) < kl_to_uniform(before[0])


def test_the_hard_histogram_of_equation_14_has_no_gradient() -> None:
    counts = [np.bincount(label, minlength=len(mu)) for label, mu in zip(labels_of(ROWS, BOOKS), BOOKS, strict=True)]
    for seed in range(20):
        nearby = [(mu + gauss(*mu.shape, seed + 10, 1e-5)).astype(np.float32) for mu in BOOKS]
        for label, mu, count in zip(labels_of(ROWS, nearby), nearby, counts, strict=True):
            assert np.array_equal(np.bincount(label, minlength=len(mu)), count)
    assert all((level == 0).all() for level in gradient(ROWS, BOOKS, None, TEMPERATURES).usage)


def test_gradients_of_shards_add_up_to_those_of_one_shard() -> None:
    slopes = [kl_slope(level) for level in gradient(ROWS, BOOKS, None, TEMPERATURES).soft]
    whole = gradient(ROWS, BOOKS, slopes, TEMPERATURES)
    total = added([gradient(part, BOOKS, slopes, TEMPERATURES) for part in np.split(ROWS, [0, 1, 70])])
    assert total.rows == whole.rows
    for mine, theirs in zip((*total.errors, *total.counts), (*whole.errors, *whole.counts), strict=True):
        np.testing.assert_allclose(mine, theirs)
    for name in ("recon", "usage", "soft"):
        for mine, level in zip(getattr(total, name), getattr(whole, name), strict=True):
            np.testing.assert_allclose(mine, level, rtol=1e-4, atol=1e-4, err_msg=name)


def test_soft_usage_is_the_hard_one_when_it_is_cold() -> None:
    found = gradient(ROWS, BOOKS, None, [1e-6, 1e-6]).soft
    for soft, label, mu in zip(found, labels_of(ROWS, BOOKS), BOOKS, strict=True):
        np.testing.assert_allclose(soft, np.bincount(label, minlength=len(mu)), atol=1e-2)
    assert kl_to_uniform(gradient(ROWS, BOOKS, None, [1e9, 1e9]).soft[0]) == pytest.approx(0, abs=1e-6)


def test_a_row_on_its_centre_gives_no_nan() -> None:
    found = gradient(BOOKS[0].copy(), BOOKS, [np.ones(7), np.ones(4)], TEMPERATURES)
    assert all(np.isfinite(level).all() for level in (*found.recon, *found.usage, *found.soft))


@pytest.mark.parametrize(
    ("usage", "answer"),
    [
        ([5, 5, 5, 5], 0.0),
        ([9, 0, 0, 0], math.log(4)),
        ([1, 1, 0, 0], math.log(2)),
        ([3, 1], 0.75 * math.log(1.5) + 0.25 * math.log(0.5)),
        ([7], 0.0),
    ],
)
def test_divergence_from_even_use_on_known_answers(usage: list[float], answer: float) -> None:
    assert kl_to_uniform(np.array(usage, np.float64)) == pytest.approx(answer, abs=1e-12)


def test_slope_of_the_divergence_against_finite_differences() -> None:
    usage = np.random.default_rng(0).uniform(0.5, 2, 6)
    p = usage / usage.sum()
    slope = kl_slope(usage)
    # Usage stays a distribution, so only differences between two codes mean anything.
    for a, b in ((0, 1), (2, 5), (4, 3)):
        step = np.zeros(6)
        step[a], step[b] = 1e-6, -1e-6
        found = (kl_to_uniform(p + step) - kl_to_uniform(p - step)) / 2e-6
        assert slope[a] - slope[b] == pytest.approx(found, abs=1e-6)
    assert kl_slope(np.full(4, 3.0)) == pytest.approx(np.zeros(4), abs=1e-12)
    assert np.isfinite(kl_slope(np.array([1.0, 0.0]))).all()


def test_adam_takes_the_steps_of_torchs_each_code_at_its_own_rate() -> None:
    rng = np.random.default_rng(0)
    adam = Adam(0.05)
    mine = [mu.copy() for mu in BOOKS]
    codes = [[torch.from_numpy(code).double().requires_grad_() for code in mu] for mu in BOOKS]
    cells = [rng.uniform(0.1, 2.0, len(mu)) for mu in BOOKS]
    groups = [
        {"params": [code], "lr": 0.05 * size}
        for level, sizes in zip(codes, cells, strict=True)
        for code, size in zip(level, sizes, strict=True)
    ]
    reference = torch.optim.Adam(groups, betas=(0.9, 0.999), eps=1e-12)
    for _ in range(30):
        slopes = [rng.standard_normal(mu.shape) * 10.0 ** rng.integers(-3, 3) for mu in BOOKS]
        for level, slope in zip(codes, slopes, strict=True):
            for code, own in zip(level, slope, strict=True):
                code.grad = torch.from_numpy(own)
        mine = adam.update(mine, slopes, cells)
        reference.step()
    for a, level, start in zip(mine, codes, BOOKS, strict=True):
        assert np.abs(a - start).max() > 0.05
        np.testing.assert_allclose(a, torch.stack(level).detach(), atol=1e-5)


def test_a_code_is_as_large_as_what_its_rows_leave() -> None:
    found = gradient(ROWS, BOOKS, None, TEMPERATURES)
    left = ROWS.astype(np.float64)
    for level, (label, mu) in enumerate(zip(labels_of(ROWS, BOOKS), BOOKS, strict=True)):
        left = left - mu[label]
        sizes = radii(found.errors[level], found.counts[level], 5)
        for code in range(len(mu)):
            own = left[label == code] if (label == code).any() else left
            assert sizes[code] == pytest.approx(np.sqrt(np.square(own).mean()), rel=1e-5)
        assert found.counts[level].sum() == 120
    empty = radii(np.array([8.0, 0.0]), np.array([2.0, 0.0]), 4)
    assert empty.tolist() == [1.0, 1.0]


def test_usage_of_one_level_leaves_the_others_alone() -> None:
    slopes = [np.zeros(7), np.random.default_rng(0).standard_normal(4)]
    found = gradient(ROWS, BOOKS, slopes, TEMPERATURES)
    assert (found.usage[0] == 0).all()
    assert np.abs(found.usage[1]).max() > 0
