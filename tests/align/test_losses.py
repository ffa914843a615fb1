"""The losses against loops and known answers."""

import math

import numpy as np
import pytest
import torch
from scipy.stats import rankdata

from lgsid_ray.align.losses import distillation_loss, gdpo_loss, listwise_loss, similarity_loss, soft_labels
from lgsid_ray.align.reward import RewardModel, margins


def units(rows: int, dimension: int, seed: int) -> torch.Tensor:
    vectors = torch.from_numpy(np.random.default_rng(seed).standard_normal((rows, dimension)))
    return torch.nn.functional.normalize(vectors, dim=1)


def test_soft_labels_share_the_mean_rank_of_ties() -> None:
    distance = torch.tensor([[3.0, 1.0, 1.0, 9.0], [0.0, 5.0, 2.0, 7.0]])
    expected = []
    for row in distance.numpy():
        label = len(row) - rankdata(row) + 1
        expected.append(label / label.max())
    assert torch.allclose(soft_labels(distance), torch.tensor(np.array(expected), dtype=torch.float32))


def test_listwise_losses_against_loops() -> None:
    rng = np.random.default_rng(0)
    scores, labels = rng.standard_normal((3, 4)), rng.uniform(0.1, 1, (3, 4))
    sigmoid = 1 / (1 + np.exp(-scores))
    wbce = -np.mean(labels * np.log(sigmoid) + (1 - labels) * np.log(1 - sigmoid))
    literal = np.mean(
        [-sum(p * math.log(s) for p, s in zip(a, b, strict=True)) for a, b in zip(labels, sigmoid, strict=True)]
    )
    soft = np.exp(labels) / np.exp(labels).sum(1, keepdims=True)
    listnet = -np.mean((soft * (scores - np.log(np.exp(scores).sum(1, keepdims=True)))).sum(1))
    for kind, value in (("wbce", wbce), ("literal", literal), ("listnet", listnet)):
        found = listwise_loss(torch.tensor(scores), torch.tensor(labels), kind)  # type: ignore[arg-type]
        assert found.item() == pytest.approx(value, rel=1e-6), kind


def test_literal_equation_4_pushes_every_score_up_for_ever() -> None:
    labels = soft_labels(torch.arange(5.0)[None])
    for size in (0.0, 10.0, 30.0):
        scores = torch.full((1, 5), size, requires_grad=True)
        listwise_loss(scores, labels, "literal").backward()
        assert scores.grad is not None
        assert (scores.grad < 0).all()
    balanced = torch.logit(labels.clamp(max=0.999)).requires_grad_()
    listwise_loss(balanced, labels.clamp(max=0.999), "wbce").backward()
    assert balanced.grad is not None
    assert torch.allclose(balanced.grad, torch.zeros_like(balanced), atol=1e-6)


def test_pointwise_knows_only_the_nearest() -> None:
    labels = soft_labels(torch.tensor([[1.0, 2.0, 3.0]]))
    scores = torch.tensor([[4.0, -4.0, -4.0]])
    assert listwise_loss(scores, labels, "pointwise") < 0.05 < listwise_loss(scores.flip(1), labels, "pointwise")


def test_gdpo_at_the_reference_is_log_2_and_falls_with_the_margin() -> None:
    still = torch.tensor([0.3, -1.0])
    assert gdpo_loss(still, still, beta=2.0).item() == pytest.approx(math.log(2))
    assert gdpo_loss(still + 1, still, 1.0).item() == pytest.approx(math.log(1 + math.exp(-1)))
    assert gdpo_loss(still + 1, still, 3.0) < gdpo_loss(still + 1, still, 1.0)


def test_reward_gradient_reaches_the_embeddings_but_not_a_frozen_judge() -> None:
    judge = RewardModel(8, 16, "pair").double().requires_grad_(False)
    anchor, near, far = (units(4, 8, seed).requires_grad_() for seed in (1, 2, 3))
    gdpo_loss(margins(judge, anchor, near, far), torch.zeros(4, dtype=torch.float64), 1.0).backward()
    for vectors in (anchor, near, far):
        assert vectors.grad is not None
        assert vectors.grad.abs().sum() > 0
    assert all(parameter.grad is None for parameter in judge.parameters())


def test_single_input_ignores_the_anchor_and_pair_does_not() -> None:
    x, y, z = units(3, 8, 0).float(), units(3, 8, 1).float(), units(3, 8, 2).float()
    single, pair = RewardModel(8, 4, "single"), RewardModel(8, 4, "pair")
    assert torch.equal(single(x, z), single(y, z))
    assert not torch.allclose(pair(x, z), pair(y, z))


def test_literal_equation_7_against_its_loop() -> None:
    policy, reference = units(5, 6, 0), units(5, 6, 1)
    total = 0.0
    for i in range(5):
        own = float(((policy[i] - reference[i]) ** 2).sum())
        total += own - sum(float(((policy[i] - reference[j]) ** 2).sum()) for j in range(5) if j != i) / 4
    found = similarity_loss(policy, reference, "literal", 0.05)
    assert found.item() == pytest.approx(total / 5, abs=1e-9)


def test_literal_equation_7_is_least_at_the_mean_centred_reference() -> None:
    reference = torch.nn.functional.normalize(units(6, 5, 0) + 1.5, dim=1)
    others = (reference.sum(0) - reference) / 5
    centred = torch.nn.functional.normalize(reference - others, dim=1)
    least = similarity_loss(centred, reference, "literal", 0.05)
    assert least < similarity_loss(reference, reference, "literal", 0.05)
    for seed in range(50):
        nearby = torch.nn.functional.normalize(centred + 0.1 * units(6, 5, seed), dim=1)
        assert least <= similarity_loss(nearby, reference, "literal", 0.05)


def test_anchor_is_zero_only_at_the_reference() -> None:
    reference = units(4, 6, 0)
    assert similarity_loss(reference, reference, "anchor", 0.05).item() == 0
    assert similarity_loss(units(4, 6, 1), reference, "anchor", 0.05) > 0.1


def test_infonce_does_not_oppose_an_item_to_its_twin() -> None:
    reference = units(3, 6, 0)
    doubled = torch.cat([reference, reference])
    once = similarity_loss(reference, reference, "infonce", 0.05)
    assert similarity_loss(doubled, doubled, "infonce", 0.05).item() == pytest.approx(once.item(), abs=1e-9)


def test_distillation_is_the_loop_whatever_the_number_of_workers() -> None:
    start, teacher = units(12, 5, 0), units(12, 5, 1)

    def whole(policy: torch.Tensor) -> torch.Tensor:
        own = sum(1 - policy[i] @ teacher[i] for i in range(12)) / 12
        pairs = sum((policy[i] @ policy[j] - teacher[i] @ teacher[j]) ** 2 for i in range(12) for j in range(12)) / 144
        return own + 3.0 * pairs  # type: ignore[no-any-return]

    def unit(rows: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.normalize(rows, dim=1)  # as the policy's own: what is lengthwise has no gradient

    expected = start.clone().requires_grad_()
    loss = whole(unit(expected))
    loss.backward()
    for workers in (1, 2, 3):
        rows = start.clone().requires_grad_()
        policy = unit(rows)
        parts = [
            distillation_loss(policy[w::workers], teacher[w::workers], policy.detach(), teacher, 3.0)
            for w in range(workers)
        ]
        mean = sum(parts) / workers
        mean.backward()  # type: ignore[union-attr]
        assert mean.item() == pytest.approx(loss.item())  # type: ignore[union-attr]
        assert torch.allclose(rows.grad, expected.grad, atol=1e-9)  # type: ignore[arg-type]
