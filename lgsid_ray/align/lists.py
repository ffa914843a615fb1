"""What the reward model learns from: mismatched lists, and which of them are held out of training."""

import numpy as np
import torch
from torch import Tensor

from lgsid_ray.align.losses import soft_labels
from lgsid_ray.arrays import Bool
from lgsid_ray.artifacts import Lists, Negatives, apart
from lgsid_ray.artifacts.embeddings import vectors
from lgsid_ray.artifacts.table import matrix
from lgsid_ray.draws import random_bits, unit
from lgsid_ray.errors import InputError

MIN_LISTS = 10


def held_out(lists: Lists, share: float, seed: int) -> Bool:
    """(lists,) which anchors are held out: a function of seed and item alone, at least one on either side.

    Raises:
        InputError: too few lists.
    """
    anchors = lists.read(["item_index"]).column("item_index").to_numpy()
    if len(anchors) < MIN_LISTS:
        raise InputError(f"{len(anchors)} anchors are too few for a reward model; it needs {MIN_LISTS} or more")
    draws = unit(random_bits(seed, "reward-held-out", anchors))
    return draws <= np.quantile(draws, share, method="lower")


def read_lists(lists: Lists, negatives: Negatives) -> tuple[Tensor, Tensor]:
    """(lists, K + 1, dimension) embeddings, true prompt first, and (lists, K) soft labels of the others (Eq 3).

    All of them in memory: `sampling.max_anchors` says how many there are.

    Raises:
        StorageError: the two tables do not belong together.
    """
    table, drawn = lists.read(["item_index", "embedding"]), negatives.read(["item_index", "distance_km"])
    if not table.column("item_index").equals(drawn.column("item_index")):
        raise apart(negatives, lists, "their anchors differ")
    distance = torch.tensor(matrix(drawn.column("distance_km")))
    embedded = torch.tensor(vectors(table)).reshape(len(table), distance.shape[1] + 1, -1)
    return embedded, soft_labels(distance)
