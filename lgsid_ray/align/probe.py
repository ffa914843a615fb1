"""A small fixed part of the training items on which alignment is watched while it trains."""

import numpy as np
import torch
from torch import Tensor

from lgsid_ray.arrays import Int64
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


def probe_metrics(policy: Tensor, reference: Tensor, districts: Tensor, k: int = 5) -> dict[str, float]:
    """Similarity@k (in the reference space) and T@k of neighbours found in the policy space, self excluded.

    Args:
        policy, reference: (m, dimension) L2-normalised.
        districts: (m,) codes; a negative one is unknown, and equals nothing.
    """
    scores = (policy @ policy.T).fill_diagonal_(-torch.inf)
    found = scores.topk(min(k, len(policy) - 1), dim=1).indices
    cosines = (reference[:, None, :] * reference[found]).sum(-1)
    same = (districts[found] == districts[:, None]) & (districts[:, None] >= 0)
    return {"similarity": float(cosines.mean()), "district": float(same.float().mean())}
