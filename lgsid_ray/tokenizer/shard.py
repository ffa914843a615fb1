"""A shard: a run of items that one actor holds in memory, and what fitting asks of it. No Ray here."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import reduce
from operator import add
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import torch
from threadpoolctl import threadpool_limits

from lgsid_ray.arrays import Float32, Float64
from lgsid_ray.artifacts.items import trains
from lgsid_ray.artifacts.spans import Span
from lgsid_ray.config.tokenizer import FeatureConfig
from lgsid_ray.draws import below, random_bits, unit
from lgsid_ray.execution.storage import StageDir
from lgsid_ray.tokenizer.assign import assign, directions, squares
from lgsid_ray.tokenizer.features import COLUMNS, Moments, Transform, moments, raw_features
from lgsid_ray.tokenizer.kmeans import Far, Sums, cluster_sums, farthest, statistics
from lgsid_ray.tokenizer.latent import Latent
from lgsid_ray.tokenizer.levels import Level, Metric, Space, walk
from lgsid_ray.tokenizer.residual import Gradient, gradient


@dataclass(frozen=True)
class View:
    """Which vectors of an item a call works on; a function of the stored tables, so that it can be made again.

    Attributes:
        space: composite features, or what the levels in front leave of embeddings (Eq 12).
        levels: those in front. transform: to the features that `space` or one of them reads. latent: the space that
            levels on embeddings work in; None: that of the embeddings.
        metric: `cosine` scales the vectors to length 1, so that distances between them tell angles.
        aside: more levels in front, taken off for one call: a shard goes on holding its vectors as `levels` leave them.
    """

    space: Space = "embeddings"
    levels: tuple[Level, ...] = ()
    transform: Transform | None = None
    latent: Latent | None = None
    metric: Metric = "euclidean"
    aside: tuple[Level, ...] = ()


class Shards(Protocol):
    """Shards of all items, wherever they are.

    Attributes:
        out: the folder that takes what an interrupted fit leaves for the next; None: nothing is left.
    """

    out: StageDir | None

    @property
    def trained(self) -> int:
        """Training items in all of them."""

    def map(self, method: str, *arguments: Any) -> list[Any]:
        """Call a method of every shard; results in the order of the shards."""

    def sum(self, method: str, *arguments: Any) -> Any:
        """What `added` makes of the results of `map`."""


FAN = 8
"""Results that are added at once."""
_BLOCK = 16_384  # rows that levels are taken off at once


def added(parts: Sequence[Any]) -> Any:
    """Their sum, by a tree whose shape depends on their number alone: FAN at a time, in their order, and so on up."""
    while len(parts) > 1:
        parts = [reduce(add, parts[begin : begin + FAN]) for begin in range(0, len(parts), FAN)]
    return parts[0]


@dataclass(frozen=True)
class _Held:
    """What a shard has in memory: vectors of `latent`, less what `levels` say of them, scaled as `metric` has it."""

    latent: Latent | None
    levels: list[tuple[Any, ...]]
    metric: Metric
    rows: Float32

    def leads_to(self, view: View, levels: list[tuple[Any, ...]]) -> bool:
        """Whether the view's vectors are these, or can be had by taking off more levels."""
        asis = self.metric == view.metric and self.levels == levels
        behind = self.metric == "euclidean" and self.levels == levels[: len(self.levels)]
        return (self.latent,) == (view.latent,) and (asis or behind)


class Shard:
    """The training items of a run: one set of vectors, and features where they are asked for.

    Levels are taken off the vectors where they lie, so that memory holds them once; a view that cannot be had so is
    made from the stored embeddings, which are read again.
    """

    def __init__(self, span: Span) -> None:
        torch.set_num_threads(1)  # the pool is the parallelism
        threadpool_limits(1, "blas")  # and products are the same to the bit with any number of cores
        self._span, self._train = span, trains(span.read_items(["split"]))
        self._numbers = span.start + np.flatnonzero(self._train)
        self._raw: tuple[Any, Float32] | None = None
        self._features: tuple[Any, Float32] | None = None
        self._held: _Held | None = None

    def count(self) -> int:
        """Training items."""
        return len(self._numbers)

    def raw(self, config: FeatureConfig, seed: int) -> Float32:
        """(n, width) features before standardisation."""
        if self._raw is None or self._raw[0] != (config, seed):
            items = self._span.read_items(list(COLUMNS)).filter(pa.array(self._train))
            self._raw = ((config, seed), raw_features(items, config, seed))
        return self._raw[1]

    def moments(self, config: FeatureConfig, seed: int) -> Moments:
        """Sums of the raw features."""
        return moments(self.raw(config, seed))

    def rows(self, view: View) -> Float32:
        """(n, width) vectors in a view, until the next view is asked for."""
        features = None if view.transform is None else self._standardised(view.transform)
        if view.space == "features":
            assert features is not None
            return features
        told = list(map(_told, view.levels))
        if self._held is None or not self._held.leads_to(view, told):
            self._held = None  # goes before the next is read
            rows = self._span.read_embeddings()[self._train]
            rows = view.latent.enter(rows, features) if view.latent else rows
            self._held = _Held(view.latent, [], "euclidean", rows)
        rows, taken = self._held.rows, len(self._held.levels)
        if (self._held.metric, taken) != (view.metric, len(told)):
            self._held = None  # while it is neither this view's nor the one before's
            for start in range(0, len(rows), _BLOCK):
                block = slice(start, start + _BLOCK)
                left = _left(view.levels[taken:], rows[block], None if features is None else features[block])
                rows[block] = directions(left) if view.metric == "cosine" else left
            self._held = _Held(view.latent, told, view.metric, rows)
        return _left(view.aside, rows, features)

    def _standardised(self, transform: Transform) -> Float32:
        """(n, f) features, kept since every view that reads them asks again; raw ones are not, any more."""
        moments = transform.moments
        key = (transform.config, transform.seed, moments.count, moments.total.tobytes(), moments.square.tobytes())
        if self._features is None or self._features[0] != key:
            self._features = (key, transform.standardise(self.raw(transform.config, transform.seed)))
            self._raw = None
        return self._features[1]

    def _draws(self, seed: int, stream: str) -> Float64:
        """One number per item, by its item_index alone."""
        return unit(random_bits(seed, stream, self._numbers))

    def pick(self, view: View, stream: str, seed: int, count: int, total: int) -> Float32:
        """About count/total of the rows, by a draw on the item's number alone."""
        return self.rows(view)[self._draws(seed, stream) < count / total]

    def statistics(
        self, view: View, centroids: Float32, price: Float32 | None, softness: float, batch: float, tag: str
    ) -> Sums:
        """Sums, counts and loads under `centroids`; of a share `batch` below 1, of rows drawn by `tag`."""
        return statistics(self._batch(view, batch, tag), centroids, price, softness)

    def farthest(self, view: View, centroids: Float32, count: int, batch: float, tag: str) -> Far:
        """Rows of the same batch that are farthest from their centroid."""
        return farthest(self._batch(view, batch, tag), centroids, count)

    def oversample(self, view: View, chosen: Float32, rate: float, seed: int, tag: str) -> Float32:
        """Rows drawn with probability rate · d², d² to the nearest row chosen so far (a round of k-means||)."""
        rows = self.rows(view)
        distance = squares(rows, chosen, assign(rows, chosen))
        return rows[self._draws(seed, tag) < rate * distance]

    def embedding_sums(self, view: View, centroids: Float32, price: Float32 | None) -> Sums:
        """Of each cluster of `view` the sum of what its levels leave of the members' embeddings; of `Sums` no more."""
        label = assign(self.rows(view), centroids, price)
        left = self.rows(replace(view, space="embeddings", metric="euclidean"))
        counts = np.bincount(label, minlength=len(centroids))
        return Sums(cluster_sums(left, label, len(centroids)), counts, 0.0, np.zeros(len(centroids)))

    def gradient(
        self, view: View, codebooks: list[Float32], slopes: Any, temperatures: list[float], batch: float, tag: str
    ) -> Gradient:
        """This shard's share of a gradient step on the residual levels."""
        return gradient(self._batch(view, batch, tag), codebooks, slopes, temperatures)

    def _batch(self, view: View, share: float, tag: str) -> Float32:
        """The view's rows; of a share below 1 as many, drawn with replacement: no others are touched."""
        rows = self.rows(view)
        if share >= 1:
            return rows
        # A part of a row more is a row more as often. What is drawn for a shard starts at its first item, so no two
        # shards draw alike.
        more = unit(random_bits(0, f"{tag}-more", [self._span.start]))[0]
        draws = self._span.start + np.arange(int(share * len(rows) + more))
        return rows[below(random_bits(0, tag, draws), len(rows))]


def _left(levels: Sequence[Level], rows: Float32, features: Float32 | None) -> Float32:
    """What levels leave of rows; these themselves where there are none."""
    for _, after in walk(levels, rows, features):
        rows = after
    return rows


def _told(level: Level) -> tuple[Any, ...]:
    """What tells a level from others."""
    arrays = (level.codebook, level.centres, level.price)
    return level.space, level.metric, *(None if array is None else array.tobytes() for array in arrays)
