"""Training items among which alignment is watched while it trains, and queries that judge what came of it. No Ray.

Few queries can speak for a catalogue: what they lose under the policy goes along with what they lose in the teacher's
space, of which the loss of many more is known (`ControlVariate`).
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from lgsid_ray.arrays import Float64, Int64
from lgsid_ray.artifacts import Embeddings
from lgsid_ray.artifacts.embeddings import vectors
from lgsid_ray.draws import random_bits

WATCHED = 5
"""Neighbours of a query among which Similarity is measured."""
_BLOCK = 1024  # queries compared at once


def draw_probe(cities: Int64, size: int, seed: int) -> Int64:
    """(m <= size,) positions of whole cities in a seeded order, the last one cut.

    Whole cities, so that the probe is as dense as the catalogue: among thinly drawn items the neighbours of the same
    district are missing, and the watched Similarity is far below that of the whole.

    Args:
        cities: (n,) city of every candidate.
    """
    by_city = random_bits(seed, "probe-city", cities)
    within = random_bits(seed, "probe-item", np.arange(len(cities)))
    return np.sort(np.lexsort((within, by_city))[:size])


def draw_queries(items: int, size: int, seed: int) -> Int64:
    """(m <= size,) item_index in the order of their draw; those of a smaller size come first in a larger.

    Of all items, held out or not: the floor is a promise about the whole catalogue, and asks for no label.
    """
    return np.argsort(random_bits(seed, "probe-query", np.arange(items)), kind="stable")[:size]


def nearest(embeddings: Embeddings, queries: Int64, k: int) -> Int64:
    """(m, <= k) item_index of the nearest of all items to each of the queries, itself left out, the nearest first.

    They are what a query finds in that space: among them Similarity is nearly that of the whole catalogue. Reads part
    by part.

    Args:
        queries: (m,) distinct item_index.
    """
    asked = torch.tensor(embeddings.of(queries))
    score, found = torch.full((len(queries), k), -torch.inf), torch.full((len(queries), k), -1)
    for table in embeddings.scan(["item_index", "embedding"]):
        index, rows = table.column("item_index").to_numpy(), torch.tensor(vectors(table))
        for start in range(0, len(queries), _BLOCK):
            block = slice(start, start + _BLOCK)
            scores = asked[block] @ rows.T
            here, place = np.nonzero(queries[block, None] == index)
            scores[here, place] = -torch.inf
            values, columns = scores.topk(min(k, scores.shape[1]))
            score[block], best = torch.cat([score[block], values], dim=1).topk(k)
            found[block] = torch.cat([found[block], torch.tensor(index)[columns]], dim=1).gather(1, best)
    known = torch.isfinite(score).all(dim=0)
    return np.asarray(found[:, known])


def similarities(policy: Tensor, reference: Tensor, queries: int, k: int = WATCHED) -> Float64:
    """(queries,) mean cosine in the reference space of the k neighbours found in the policy space, self excluded.

    Args:
        policy, reference: (m, dimension) L2-normalised; the queries are the first of them.
    """
    cosines = (reference[:queries, None, :] * reference[_found(policy, queries, k)]).sum(-1)
    return np.asarray(cosines.mean(dim=1), dtype=np.float64)


def probe_metrics(policy: Tensor, reference: Tensor, districts: Tensor, k: int = WATCHED) -> dict[str, float]:
    """Similarity@k (in the reference space) and T@k of neighbours found in the policy space, self excluded.

    Args:
        policy, reference: (m, dimension) L2-normalised.
        districts: (m,) codes; a negative one is unknown, and equals nothing.
    """
    own = districts[:, None]
    same = (districts[_found(policy, len(policy), k)] == own) & (own >= 0)
    similarity = similarities(policy, reference, len(policy), k).mean()
    return {"similarity": float(similarity), "district": float(same.float().mean())}


def _found(policy: Tensor, queries: int, k: int) -> Tensor:
    """(queries, <= k) rows nearest to the first ones, itself left out."""
    scores = (policy[:queries] @ policy.T).fill_diagonal_(-torch.inf)
    return scores.topk(min(k, len(policy) - 1), dim=1).indices


@dataclass(frozen=True)
class ControlVariate:
    """What queries lose in a space whose loss is known of many more (Glasserman, 2003, section 4.1).

    Attributes:
        lost: (q,) Similarity that each query loses there. mean: of those of whom more is known.
    """

    lost: Float64
    mean: float

    @classmethod
    def of(cls, reference: Embeddings, queries: Int64, there: Int64, here: Int64, judges: int) -> "ControlVariate":
        """From what queries find in a space and in the reference space.

        Args:
            queries: (m,) item_index, of which the first `judges` judge. there, here: (m, k) their neighbours.
        """
        wanted = np.unique(np.concatenate([queries, there.ravel(), here.ravel()]))
        rows = torch.tensor(reference.of(wanted))

        def similarity(found: Int64) -> Float64:
            own, others = (rows[np.searchsorted(wanted, index)] for index in (queries, found))
            return np.asarray(torch.einsum("md,mkd->mk", own, others).mean(dim=1), dtype=np.float64)

        lost = similarity(here) - similarity(there)
        return cls(lost[:judges], float(lost.mean()))

    def adjusted(self, lost: Float64) -> float:
        """The mean of (q,) losses under the policy, had all been asked: less what these queries lose too much there."""
        spread = self.lost.var()
        along = float(np.cov(lost, self.lost, bias=True)[0, 1] / spread) if spread > 0 else 0.0
        return float(lost.mean()) - along * (float(self.lost.mean()) - self.mean)
