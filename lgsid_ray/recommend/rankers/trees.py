"""Boosted trees on what every ranker is told: the rival that reads no IDs and needs seconds."""

import numpy as np
from sklearn.ensemble import HistGradientBoostingClassifier

from lgsid_ray.arrays import Float32, Float64
from lgsid_ray.draws import random_bits

ROWS = 1_000_000
"""Training samples at most."""
ROUNDS, RATE = 300, 0.06


class Trees:
    """P(click) by scikit-learn's histogram gradient boosting; rounds end where a tenth of the samples gains no more."""

    def __init__(self, table: Float64 | Float32, label: Float32, seed: int) -> None:
        """Fitted to (n, F) rows and their labels, to a seeded sub-sample where they are many."""
        kept = np.argsort(random_bits(seed, "rank/trees", np.arange(len(label))), kind="stable")[:ROWS]
        model = HistGradientBoostingClassifier(
            max_iter=ROUNDS, learning_rate=RATE, early_stopping=True, random_state=seed
        )
        self._model = model.fit(table[kept], label[kept])

    def probabilities(self, table: Float64 | Float32) -> Float64:
        """(b,) of (b, F) rows."""
        return np.asarray(self._model.predict_proba(table)[:, 1])
