"""Agreement of embedding clusters with the administrative labels: NMI and AMI."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.cluster import MiniBatchKMeans
from sklearn.metrics import adjusted_mutual_info_score, normalized_mutual_info_score

from lgsid_ray.arrays import Float32, Int64
from lgsid_ray.artifacts.labels import LEVELS
from lgsid_ray.draws import random_bits

BATCH = 4096


@dataclass(frozen=True)
class Sample:
    """Items whose label is known."""

    index: Int64
    """(m,) item_index, ascending."""
    label: Int64
    """(m,)"""

    @classmethod
    def drawn(cls, labels: Int64, items: int, seed: int) -> "Sample":
        """At most `items` of those with one of the (n,) labels, by seeded rank; -1: unknown."""
        order = np.argsort(random_bits(seed, "evaluate/cluster", np.arange(len(labels))))
        index = np.sort(order[labels[order] >= 0][:items])
        return cls(index, labels[index])


def agreement(
    of: Callable[[Int64], Float32], samples: Sequence[Sample], clusters: int, seed: int
) -> list[dict[str, Any]]:
    """Per level: NMI and AMI of K-Means clusters of its sample's vectors with its labels.

    As many clusters as labels, at most `clusters`. NMI flatters many small clusters; AMI is 0 for clusters that tell
    nothing. None where there is only one label, or every item has its own.

    Args:
        of: (m, d) vectors of (m,) items. samples: one for each of LEVELS.
    """
    rows = []
    for name, sample in zip(LEVELS, samples, strict=True):
        distinct, items = len(np.unique(sample.label)), len(sample.index)
        row = {"level": name, "items": items, "labels": distinct, "clusters": None, "nmi": None, "ami": None}
        if distinct < 2:
            row["reason"] = "fewer than two labels"
        elif distinct == items:
            row["reason"] = "every item has a label of its own"
        else:
            count = min(distinct, clusters)
            # Of as few rows as sklearn lets it be: with its default the start takes ten times as long as all batches.
            model = MiniBatchKMeans(count, batch_size=BATCH, n_init=1, init_size=3 * count, random_state=seed % 2**32)
            found = model.fit_predict(of(sample.index))
            row["clusters"] = count
            row["nmi"] = float(normalized_mutual_info_score(sample.label, found))
            row["ami"] = float(adjusted_mutual_info_score(sample.label, found))
        rows.append(row)
    return rows
