"""What search in a long history is made of: its distinct items, the best of its events, and times and ways in steps."""

from typing import NamedTuple

import torch
from torch import Tensor

from lgsid_ray.recommend.rankers.batches import RankBatch

STEPS = 24
"""Steps that a time or a way is told in, see `steps`."""
_HOUR = 3600.0


class Found(NamedTuple):
    """Events that a search has found, (b, k) each."""

    item: Tensor
    """item_index, 0 where it is none."""
    valid: Tensor
    """bool: whether it is one."""
    place: Tensor
    """Where it stands in the long history."""


def distinct(history: Tensor, items: int) -> tuple[Tensor, Tensor]:
    """(u,) items and where each event of the (b, t) history stands among them, so that an item is projected once.

    They are the whole catalogue where that is no longer than the history; padding stands at any of them.
    """
    inside = history.clamp(min=0)
    if items <= history.numel():
        return torch.arange(items, device=history.device), inside
    known, index = torch.unique(inside, return_inverse=True)
    return known, index


def padded(batch: RankBatch, scores: Tensor) -> Tensor:
    """(b, t, …) scores of the long history, -inf on its padding."""
    outside = batch.long < 0
    return scores.masked_fill(outside.view(*outside.shape, *[1] * (scores.ndim - 2)), -torch.inf)


def best(batch: RankBatch, scores: Tensor, most: int) -> Found:
    """The `most` events of the long history with the largest finite scores, (b, t); among equals, the latest."""
    place = _ranks(scores).topk(min(most, scores.shape[1]), sorted=False).indices
    return _found(batch, place, scores)


def walked(batch: RankBatch, scores: Tensor, most: int) -> Found:
    """The `most` events that come first when the heads take turns to name the best that they have not yet named.

    Args:
        scores: (b, t, heads), -inf on padding.
    """
    most = min(most, scores.shape[1])
    named = _ranks(scores).topk(most, dim=1).indices.flatten(1)  # (b, most · heads), turn by turn
    turn = torch.arange(named.shape[1], device=named.device).expand_as(named)
    first = torch.full(scores.shape[:2], named.shape[1], device=named.device)
    first = first.scatter_reduce(1, named, turn, "amin")
    place = first.topk(most, largest=False, sorted=False).indices
    return _found(batch, place, scores[..., 0])


def age_steps(gap: Tensor) -> Tensor:
    """Seconds as steps of hours."""
    return steps(gap / _HOUR)


def steps(amount: Tensor) -> Tensor:
    """Amounts of at least 0 as int64 below STEPS: two steps for each doubling."""
    return (2 * torch.log2(1 + amount)).long().clamp(max=STEPS - 1)


def _ranks(scores: Tensor) -> Tensor:
    """(b, t, …) int64 in the order of float32 scores, the earlier place first among equals.

    What topk does with equals depends on how many there are beside them: padding would change what is found.
    """
    bits = scores.float().contiguous().view(torch.int32).long()
    ordered = bits ^ ((bits >> 31) & 0x7FFFFFFF)  # as integers, negative floats stand the wrong way round
    place = torch.arange(scores.shape[1], device=scores.device)
    return (ordered << 24) - place.view(-1, *[1] * (scores.ndim - 2))


def _found(batch: RankBatch, place: Tensor, scores: Tensor) -> Found:
    """Events of the long history by their places, (b, k); one with a score of -inf is none."""
    item, valid = batch.long.gather(1, place).clamp(min=0), scores.gather(1, place) > -torch.inf
    return Found(item, valid, place)
