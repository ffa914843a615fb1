"""Beam search over SIDs that follows the trie, so that every result is an item of the catalogue."""

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from lgsid_ray.arrays import Bool, Float32, Int64
from lgsid_ray.artifacts import Trie
from lgsid_ray.recommend.generators.batches import GenerateBatch
from lgsid_ray.recommend.generators.registry import Generator

BEGIN = -1
"""The token before the first."""


@torch.no_grad()
def search(
    model: Generator[Any], batch: GenerateBatch, trie: Trie, beams: int, without: tuple[Int64, Int64] | None = None
) -> tuple[Int64, Float32]:
    """The likeliest items after each history, all histories and beams at once.

    A beam's score is the sum of its tokens' log-probabilities, not renormalised over the trie's children: with as
    many beams as items the scores are exactly `log p(SID)`.

    Args:
        trie: of the same tokens as the model's, unique per item.
        without: (m,) rows of the batch and (m,) item_index that these must not be given.

    Returns:
        (b, beams) item_index, best first, -1 where the catalogue has fewer items, and (b, beams) scores.
    """
    state, (size, device) = model.start(batch), (len(batch.history), batch.history.device)
    score = torch.zeros((size, 1), device=device)
    token = torch.full((size, 1), BEGIN, device=device)
    states = np.full((size, 1), trie.root)
    for level in range(model.levels):
        logits, state = model.advance(state, token)
        ahead = F.log_softmax(logits, dim=-1)
        live = torch.isfinite(score).cpu().numpy()
        allowed = np.zeros(ahead.shape, dtype=bool)
        allowed[live] = trie.allowed(states[live], ahead.shape[-1])
        if without is not None and level == model.levels - 1:
            _forbid(allowed, states, *without, trie)
        total = (score.unsqueeze(-1) + ahead).masked_fill(~torch.from_numpy(allowed).to(device), -torch.inf)
        total = total.flatten(1)
        score, flat = total.topk(min(beams, total.shape[1]), dim=1)
        parent, token = flat // ahead.shape[-1], flat % ahead.shape[-1]
        state = state.take(parent)
        live = torch.isfinite(score).cpu().numpy()
        states = np.take_along_axis(states, parent.cpu().numpy(), axis=1)
        states[live] = trie.step(states[live], token.cpu().numpy()[live])
    items = np.full(states.shape, -1)
    items[live] = trie.items(states[live])
    lacking = ((0, 0), (0, beams - items.shape[1]))
    return np.pad(items, lacking, constant_values=-1), np.pad(score.cpu().numpy(), lacking, constant_values=-np.inf)


def _forbid(allowed: Bool, states: Int64, row: Int64, item: Int64, trie: Trie) -> None:
    """Take from (b, k, size) `allowed` the last tokens that lead from the beams' states to an item of their row."""
    state, token = trie.last(item)
    which, beam = np.nonzero(states[row] == state[:, None])
    allowed[row[which], beam, token[which]] = False
