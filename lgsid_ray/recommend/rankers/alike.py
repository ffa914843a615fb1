"""What SIDs tell of a sample in numbers: how a target's prefixes match those of the history, and what follows what."""

import numpy as np

from lgsid_ray.arrays import Float32, Float64, Int64
from lgsid_ray.artifacts.keys import prefix_numbers
from lgsid_ray.recommend.rankers.follows import Follows
from lgsid_ray.recommend.rankers.samples import Samples
from lgsid_ray.recommend.rankers.standardised import Standardised


class Alike(Standardised):
    """For prefixes of every length: the share of the history that has the target's, the logarithm of how many have it,
    whether the latest event does, and how much likelier than usual the target's prefix follows that one's (`Follows`).

    Args:
        tokens: (n, L) SIDs of the items.
    """

    def __init__(self, samples: Samples, tokens: Int64, length: int, seed: int) -> None:
        super().__init__(samples, length, seed)
        self.width = 4 * tokens.shape[1]
        self._codes = prefix_numbers(tokens).T
        self._follows = [Follows(samples, self._fold, code) for code in self._codes]
        self._settle()

    def _raw(self, rows: Int64) -> Float64:
        history, target = self._samples.histories(rows, self._length), self._samples.item[rows]
        inside, told_by = history >= 0, self._told_by(rows)
        held = np.maximum(inside.sum(axis=1), 1)
        columns: list[Float32 | Float64] = []
        for code, follows in zip(self._codes, self._follows, strict=True):
            same = inside & (code[history] == code[target][:, None])
            count = same.sum(axis=1)
            after = follows.of(self._samples, rows, told_by)
            columns += [count / held, np.log1p(count), same[:, 0], after]
        return np.column_stack(columns).astype(np.float64)
