"""A generator and the rules that count as one mixture: what is recommended, and what training adds to counting.

P(item | history) = w₀ · P_generator + Σ_r w_r · P_r, with the weights under which validation targets are likeliest. A
generator speaks of what its beams find, in fitting as in serving: the rest has no chance of it, and what they find sums
to 1 as a rule's chances do, so that its weight does not depend on how far they reach.
"""

from dataclasses import dataclass

import numpy as np
from scipy import sparse

from lgsid_ray.arrays import AnyFloat, Bool, Float64, Int64
from lgsid_ray.recommend.generators.baselines import Chances, Rules, Weights

GENERATOR = "generator"
"""Its name among the rules."""
Listed = tuple[Int64, AnyFloat]
"""What a beam search found: (q, beams) item_index, -1 where there are fewer, and their log-probabilities."""


def among_found(listed: Listed) -> Listed:
    """With log-probabilities given that it is one of the items found: they sum to 1 for every history."""
    items, score = listed
    with np.errstate(invalid="ignore"):  # of a history for which nothing is found
        return items, score - mass(listed)[:, None]


def mass(listed: Listed) -> AnyFloat:
    """(q,) log-probability that it is one of the items found."""
    return np.logaddexp.reduce(listed[1], axis=1)


@dataclass(frozen=True)
class Blend:
    """The mixture of a generator and the rules; in discovery without what a history holds."""

    rules: Rules
    weights: Weights
    discovery: bool

    @classmethod
    def fit(cls, rules: Rules, targets: Int64, listed: Listed, discovery: bool) -> "Blend | None":
        """On the targets at the positions `targets`, for whose histories `listed` was found; None without any."""
        weights = rules.weights(targets, _chances(rules, targets, listed, discovery))
        return None if weights is None else cls(rules, weights, discovery)

    def lists(self, targets: Int64, listed: Listed, length: int, inside: Bool | None = None) -> tuple[Int64, Float64]:
        """(q, length) item_index, likeliest first, -1 where there are fewer, and their probabilities.

        Args:
            inside: (items,) which may be listed at all; None: all.
        """
        chances = _chances(self.rules, targets, listed, self.discovery)
        return self.rules.mixture(targets, chances, self.weights, length, self.discovery, inside)


def _chances(rules: Rules, targets: Int64, listed: Listed, discovery: bool) -> Chances:
    """What the rules say, and beside it what the beam search found."""
    items, log_chance = listed
    row, place = np.nonzero(items >= 0)
    found = (np.exp(log_chance[row, place], dtype=np.float64), (row, items[row, place]))
    shape = (len(items), len(rules.popular))
    return rules.chances(targets, discovery) | {GENERATOR: sparse.csr_matrix(found, shape=shape)}
