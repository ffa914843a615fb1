"""The losses of reward model, G-DPO (Eq 3, 4, 6, 7) and distillation, as plain functions on tensors."""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

RewardLoss = Literal["wbce", "listnet", "literal", "pointwise"]
Regulariser = Literal["infonce", "anchor", "literal"]


def soft_labels(distance: Tensor) -> Tensor:
    """Soft labels p_ij = K - Rank(dis_ij) + 1, near to far (Eq 3), divided by their largest: in (0, 1].

    Args:
        distance: (lists, K) in any unit. Equal distances share their mean rank.
    """
    nearer = (distance[:, None, :] < distance[:, :, None]).sum(-1)
    equal = (distance[:, None, :] == distance[:, :, None]).sum(-1)
    rank = nearer + (equal + 1) / 2
    labels = distance.shape[1] - rank + 1
    return labels / labels.max(dim=1, keepdim=True).values


def listwise_loss(scores: Tensor, labels: Tensor, kind: RewardLoss) -> Tensor:
    """Loss of the reward model on lists (Eq 4 and its repairs).

    Args:
        scores: (lists, K) logits. labels: (lists, K) in (0, 1].
        kind: `wbce`, binary cross-entropy towards the soft label; `listnet`, cross-entropy between the softmaxes;
            `literal`, Eq 4 as printed, whose minimum is at infinite scores; `pointwise`, the ablation DPO-PR with
            label 1 for the nearest and 0 for the others.
    """
    if kind == "wbce":
        return F.binary_cross_entropy_with_logits(scores, labels)
    if kind == "listnet":
        return F.cross_entropy(scores, torch.softmax(labels, dim=1))
    if kind == "literal":
        return -(labels * F.logsigmoid(scores)).sum(dim=1).mean()
    return F.binary_cross_entropy_with_logits(scores, (labels == labels.max(dim=1, keepdim=True).values).float())


def gdpo_loss(margin: Tensor, reference_margin: Tensor, beta: float) -> Tensor:
    """L_align of Eq 6.

    Args:
        margin: (triples,) R(i+) - R(i-) on policy embeddings, logits.
        reference_margin: (triples,) the same on reference embeddings.
        beta: β.
    """
    return -F.logsigmoid(beta * (margin - reference_margin)).mean()


def similarity_loss(policy: Tensor, reference: Tensor, kind: Regulariser, temperature: float) -> Tensor:
    """The dual similarity regulariser (Eq 7) and two alternatives; holds policy embeddings to what they meant.

    Args:
        policy, reference: (batch, dimension), L2-normalised, row by row of the same items.
        kind: `infonce`, each policy vector is to find its own reference among the batch's; `anchor`, squared
            distance to the own reference; `literal`, Eq 7 as printed: own minus mean distance to the others'.
        temperature: of `infonce`.
    """
    if kind == "infonce":
        # An item that stands in the batch twice would be its own negative; such pairs are masked.
        logits = policy @ reference.T / temperature
        twin = (reference[:, None, :] == reference[None, :, :]).all(-1)
        twin.fill_diagonal_(False)
        return F.cross_entropy(logits.masked_fill(twin, -torch.inf), torch.arange(len(policy), device=policy.device))
    own = (policy - reference).square().sum(dim=1)
    if kind == "anchor":
        return own.mean()
    squares = torch.cdist(policy, reference).square()
    others = (squares.sum(dim=1) - own) / (len(policy) - 1)
    return (own - others).mean()


def distillation_loss(
    policy: Tensor, teacher: Tensor, batch: Tensor, batch_teacher: Tensor, relations: float
) -> Tensor:
    """Mean over a worker's rows of 1 - cos(E_π, E_T), and of the squared differences of cosines with the whole batch.

    The second part (Park et al., 2019, "Relational knowledge distillation", of cosines) tells what every item should
    be near to. The batch comes without gradients, and half of what a row's cosines pull at is elsewhere: so it is
    doubled here. The mean over equal workers then has the gradient that one worker with all rows would have.

    Args:
        policy, teacher: (b, d) of this worker's rows. batch, batch_teacher: (B, d) of all workers', without gradients.
        relations: weight of the second part.
    """
    own = (1 - (policy * teacher).sum(dim=1)).mean()
    pairs = (policy @ batch.T - teacher @ batch_teacher.T).square().mean()
    return own + relations * (2 * pairs - pairs.detach())
