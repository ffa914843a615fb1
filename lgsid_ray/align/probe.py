"""Some training items: a part in which alignment is watched while it trains, and queries that judge what came of it."""

import numpy as np
import torch
from torch import Tensor

from lgsid_ray.arrays import Int64
from lgsid_ray.artifacts import Embeddings
from lgsid_ray.artifacts.embeddings import vectors
from lgsid_ray.draws import random_bits


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


def draw_queries(training: Int64, size: int, seed: int) -> Int64:
    """(m <= size,) item_index, ascending, of training items drawn one by one.

    Args:
        training: (n,) item_index.
    """
    return np.sort(training[np.argsort(random_bits(seed, "probe-query", training), kind="stable")[:size]])


def nearest(embeddings: Embeddings, queries: Int64, k: int = 5) -> Int64:
    """(m, <= k) item_index of the nearest of all items to each of the queries, itself left out.

    They are what a query finds in that space: among them Similarity is nearly that of the whole catalogue. Reads part
    by part.

    Args:
        queries: (m,) item_index, ascending.
    """
    asked = torch.tensor(embeddings.of(queries))
    score, found = torch.full((len(queries), k), -torch.inf), torch.full((len(queries), k), -1)
    for table in embeddings.scan(["item_index", "embedding"]):
        index = table.column("item_index").to_numpy()
        scores = asked @ torch.tensor(vectors(table)).T
        here, place = np.nonzero(queries[:, None] == index[None, :])
        scores[here, place] = -torch.inf
        values, columns = scores.topk(min(k, scores.shape[1]))
        score, best = torch.cat([score, values], dim=1).topk(k)
        found = torch.cat([found, torch.tensor(index)[columns]], dim=1).gather(1, best)
    known = torch.isfinite(score).all(dim=0)
    return np.asarray(found[:, known])


def probe_metrics(
    policy: Tensor, reference: Tensor, districts: Tensor, queries: int | None = None, k: int = 5
) -> dict[str, float]:
    """Similarity@k (in the reference space) and T@k of neighbours found in the policy space, self excluded.

    Args:
        policy, reference: (m, dimension) L2-normalised.
        districts: (m,) codes; a negative one is unknown, and equals nothing.
        queries: how many, from the first on, are asked for; None: all.
    """
    asked = slice(queries)
    scores = (policy[asked] @ policy.T).fill_diagonal_(-torch.inf)
    found = scores.topk(min(k, len(policy) - 1), dim=1).indices
    cosines = (reference[asked, None, :] * reference[found]).sum(-1)
    own = districts[asked, None]
    same = (districts[found] == own) & (own >= 0)
    return {"similarity": float(cosines.mean()), "district": float(same.float().mean())}
