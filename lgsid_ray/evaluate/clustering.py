"""Agreement of embedding clusters with the administrative labels: NMI and AMI."""

from typing import Any

import numpy as np
from sklearn.cluster import MiniBatchKMeans
from sklearn.metrics import adjusted_mutual_info_score, normalized_mutual_info_score

from lgsid_ray.arrays import Float32, Int64
from lgsid_ray.artifacts.labels import LEVELS
from lgsid_ray.draws import random_bits

BATCH = 4096


def agreement(vectors: Float32, labels: Int64, clusters: int, items: int, seed: int) -> list[dict[str, Any]]:
    """Per level: NMI and AMI of K-Means clusters of `vectors` (n, d) with the labels (n, 3).

    As many clusters as labels, at most `clusters`; on a seeded sample of at most `items` items whose label is
    known. NMI flatters many small clusters; AMI is 0 for clusters that tell nothing. None where there is only one
    label, or every item has its own.
    """
    order = np.argsort(random_bits(seed, "evaluate/cluster", np.arange(len(vectors))))
    rows = []
    for level, name in enumerate(LEVELS):
        sample = np.sort(order[labels[order, level] >= 0][:items])
        truth = labels[sample, level]
        distinct = len(np.unique(truth))
        row = {"level": name, "items": len(sample), "labels": distinct, "clusters": None, "nmi": None, "ami": None}
        if distinct < 2:
            row["reason"] = "fewer than two labels"
        elif distinct == len(sample):
            row["reason"] = "every item has a label of its own"
        else:
            count = min(distinct, clusters)
            model = MiniBatchKMeans(count, batch_size=BATCH, n_init=3, random_state=seed % 2**32)
            found = model.fit_predict(vectors[sample])
            row["clusters"] = count
            row["nmi"] = float(normalized_mutual_info_score(truth, found))
            row["ami"] = float(adjusted_mutual_info_score(truth, found))
        rows.append(row)
    return rows
