"""One level of a tokenizer, and the walk down all of them: the only place where an item is given its tokens."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from lgsid_ray.arrays import Float32, Int64
from lgsid_ray.tokenizer.assign import assign, assign_by_angle

Space = Literal["features", "embeddings"]
Metric = Literal["euclidean", "cosine"]
ASSIGNERS = {
    ("nearest", "euclidean"): assign,
    ("nearest", "cosine"): assign_by_angle,
    ("priced", "euclidean"): assign,
    ("priced", "cosine"): assign_by_angle,
}
"""(assigner, metric) → how rows, a codebook and its prices give tokens."""


@dataclass(frozen=True)
class Level:
    """One token of a SID.

    Attributes:
        space: what rows are compared in: composite features, or what the levels before have left of embeddings.
        codebook: (k, width) vectors of that space, which rows are compared with.
        centres: (k, d) vectors whose sum over the levels reconstructs an embedding; often the codebook itself.
        metric: with the assigner, of ASSIGNERS.
        price: (k,) of the codes, in units of squared distance, which make their use even; None: all alike.
    """

    space: Space
    codebook: Float32
    centres: Float32
    metric: Metric = "euclidean"
    price: Float32 | None = None

    @property
    def assigner(self) -> str:
        """`nearest`, or `priced` where codes have prices."""
        return "nearest" if self.price is None else "priced"

    @property
    def size(self) -> int:
        """Number of codes."""
        return len(self.centres)

    def label(self, rows: Float32) -> Int64:
        """(n,) tokens of (n, width) rows of the level's space; a row's token depends on that row alone."""
        return ASSIGNERS[self.assigner, self.metric](rows, self.codebook, self.price)


def on_embeddings(centres: Float32, price: Float32 | None = None) -> Level:
    """A level whose (k, d) centres are what residuals of embeddings are compared with, at (k,) prices if any."""
    return Level("embeddings", centres, centres, price=price)


def walk(
    levels: Sequence[Level], embeddings: Float32, features: Float32 | None = None
) -> Iterator[tuple[Int64, Float32]]:
    """Level by level, (n,) tokens and the (n, d) residual R^(l) = X - Σ Q that they leave (Eq 10-12).

    Args:
        embeddings: (n, d). features: (n, f) of the same items; read by levels in that space only.
    """
    left = embeddings
    for level in levels:
        rows = features if level.space == "features" else left
        assert rows is not None, "a level in the space of features needs features"
        label = level.label(rows)
        left = left - level.centres[label]
        yield label, left
