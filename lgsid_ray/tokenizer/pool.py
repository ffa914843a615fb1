"""The K-Means actor pool: shards stay in the actors, only centroids, sums and counts travel.

Fitting sees the training items alone; tokens are given to all. Items are cut into shards of SHARD_ROWS, whatever the
number of actors, and results are added in the order of the shards, so neither the pool's size nor timing changes a
digit. An actor that dies is replaced; the new one reads its shard again and the call is repeated, with the same result.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import ray
import torch
from ray.util.placement_group import placement_group, remove_placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from lgsid_ray.arrays import Float32, Float64, Int32, Int64
from lgsid_ray.config.tokenizer import FeatureConfig
from lgsid_ray.draws import random_bits, unit
from lgsid_ray.errors import StorageError
from lgsid_ray.execution.storage import StageDir
from lgsid_ray.tokenizer.features import COLUMNS, Moments, moments, raw_features, standardise
from lgsid_ray.tokenizer.kmeans import Sums, assign, cluster_sums, statistics
from lgsid_ray.tokenizer.residual import Gradient, gradient

SHARD_ROWS = 65_536


@dataclass(frozen=True)
class View:
    """Which vectors of an item a call works on; a function of the stored tables, so that it can be made again.

    Attributes:
        features: True for composite features standardised with `moments`, False for embeddings.
        centroids: level-1 centroids in feature space, where level 1 goes by features.
        centres: centres of the levels whose vectors are taken away first: R^(l) = X - Σ Q (Eq 12).
    """

    features: bool = False
    moments: Moments | None = None
    centroids: Float32 | None = None
    centres: tuple[Float32, ...] = ()


@dataclass(frozen=True)
class Slice:
    """Some rows of a part."""

    part: str
    offset: int
    rows: int


@dataclass(frozen=True)
class Making:
    """Where a shard's rows [start, stop) stand."""

    catalogue: StageDir
    vectors: StageDir
    start: int
    stop: int
    items: list[Slice]
    embeddings: list[Slice]


class Shard:
    """A run of items: their raw features and embeddings, read once. Fitting goes by its training items."""

    def __init__(self, making: Making, config: FeatureConfig, seed: int) -> None:
        torch.set_num_threads(1)  # the pool is the parallelism
        items = _rows(making.catalogue, making.items, ["item_index", "item_id", "split", *COLUMNS], making)
        embedded = _rows(making.vectors, making.embeddings, ["item_index", "embedding"], making)
        self.item_id = items.column("item_id").combine_chunks()
        self.config, self.start = config, making.start
        train = items.column("split").to_numpy(zero_copy_only=False) == "train"
        self._train = slice(None) if train.all() else train  # a slice, so that nothing is copied
        self._numbers = making.start + np.flatnonzero(train)
        self.raw = raw_features(items, config, seed)
        flat = np.asarray(embedded.column("embedding").combine_chunks().flatten(), dtype=np.float32)
        self.embeddings = flat.reshape(len(embedded), -1)
        self._kept: tuple[tuple[Any, ...], Float32] | None = None

    def count(self) -> int:
        """Training items."""
        return len(self._numbers)

    def moments(self) -> Moments:
        """Sums of the training items' raw features."""
        return moments(self.raw[self._train])

    def rows(self, view: View) -> Float32:
        """(n, width) vectors of the training items in a view; the last is kept, since iterations ask for it again."""
        arrays = (view.centroids, *view.centres)
        key = (view.features, *(None if array is None else id_of(array) for array in arrays))
        if self._kept is None or self._kept[0] != key:
            self._kept = (key, self._make(view))
        return self._kept[1]

    def _make(self, view: View) -> Float32:
        if view.features:
            assert view.moments is not None
            return standardise(self.raw[self._train], view.moments, self.config)
        left = self.embeddings[self._train]
        for level, centres in enumerate(view.centres):
            left = left - centres[self._label(view, level, self.raw[self._train], left)]
        return left

    def _label(self, view: View, level: int, raw: Float32, left: Float32) -> Int64:
        if level == 0 and view.centroids is not None:
            assert view.moments is not None
            return assign(standardise(raw, view.moments, self.config), view.centroids)[0]
        return assign(left, view.centres[level])[0]

    def _draws(self, seed: int, stream: str) -> Float64:
        """One number per training item, by its item_index alone."""
        return unit(random_bits(seed, stream, self._numbers))

    def pick(self, view: View, stream: str, seed: int, count: int, total: int) -> Float32:
        """About count/total of the rows, by a draw on the item's number alone."""
        rows = self.rows(view)
        return rows[self._draws(seed, stream) < count / total]

    def statistics(
        self, view: View, centroids: Float32, price: Float32 | None, far: int, batch: float, tag: str
    ) -> Sums:
        """Sums and counts under `centroids`; of a seeded share `batch` of the rows where that is below 1."""
        rows = self.rows(view)
        if batch < 1:
            rows = rows[self._draws(0, tag) < batch]
        return statistics(rows, centroids, price, far)

    def oversample(self, view: View, chosen: Float32, rate: float, seed: int, tag: str) -> Float32:
        """Rows drawn with probability rate · d², d² to the nearest row chosen so far (a round of k-means||)."""
        rows = self.rows(view)
        distance = assign(rows, chosen)[1]
        return rows[self._draws(seed, tag) < rate * distance]

    def embedding_sums(self, view: View, centroids: Float32) -> tuple[Float64, Int64]:
        """Sums of the embeddings, and counts, of each cluster of `view` (level 1's centres)."""
        label, _ = assign(self.rows(view), centroids)
        sums = cluster_sums(self.embeddings[self._train], label, len(centroids))
        return sums, np.bincount(label, minlength=len(centroids))

    def gradient(
        self, view: View, codebooks: list[Float32], slopes: Any, temperatures: list[float], batch: float, tag: str
    ) -> Gradient:
        """This shard's share of a gradient step on the residual levels."""
        rows = self.rows(view)
        if batch < 1:
            rows = rows[self._draws(0, tag) < batch]
        return gradient(rows, codebooks, slopes, temperatures)

    def tokens(self, view: View) -> tuple[Int32, list[float]]:
        """(n, L) tokens of all items under all levels of `view`, and the sum of ‖R^(l)‖² after each level (Eq 12)."""
        left, out, energy = self.embeddings, np.empty((len(self.embeddings), len(view.centres)), dtype=np.int32), []
        for level, centres in enumerate(view.centres):
            out[:, level] = self._label(view, level, self.raw, left)
            left = left - centres[out[:, level]]
            energy.append(float(np.square(left, dtype=np.float64).sum()))
        return out, energy

    def embedding_moments(self) -> Moments:
        """Sums of all embeddings and of their squares."""
        return moments(self.embeddings)


def id_of(array: Float32) -> bytes:
    """What tells one array from another across processes: its bytes."""
    return array.tobytes()


class Pool:
    """A fixed set of actors, each with some shards.

    Args:
        catalogue, vectors: finished stages with `items` and `embeddings`.
        actors: at most this many; never more than shards.
    """

    def __init__(self, catalogue: StageDir, vectors: StageDir, config: FeatureConfig, seed: int, actors: int) -> None:
        items, embedded = catalogue.count_parts("items"), vectors.count_parts("embeddings")
        self.total, held = (sum(rows for _, rows in parts) for parts in (items, embedded))
        if held != self.total:
            raise StorageError(f"{vectors.root} holds {held} embeddings for {self.total} items; delete it, run again")
        starts = range(0, self.total, SHARD_ROWS)
        self.bounds = [(start, min(start + SHARD_ROWS, self.total)) for start in starts]
        self._make = [
            (Making(catalogue, vectors, *span, _slices(items, *span), _slices(embedded, *span)), config, seed)
            for span in self.bounds
        ]
        # Never more actors than CPUs: those beyond would wait for ever while the others hold theirs. And all at once
        # or none: two pools that each got some of theirs would wait for each other.
        actors = max(1, min(actors, len(starts), int(ray.cluster_resources().get("CPU", 1))))
        self._owner = [shard % actors for shard in range(len(starts))]
        self._group = placement_group([{"CPU": 1.0}] * actors)
        self._actors = [self._start(number) for number in range(actors)]
        self.trained = sum(self.map("count"))
        """Training items."""

    def map(self, method: str, *arguments: Any) -> list[Any]:
        """Call a method of every shard; results in the order of the shards."""
        # Put once: every shard gets the same centroids.
        shared = [ray.put(argument) for argument in arguments]
        calls = [self._call(shard, method, shared) for shard in range(len(self._owner))]
        return [self._result(shard, call, method, shared) for shard, call in enumerate(calls)]

    def map_with(self, method: Callable[..., Any], per_shard: Sequence[tuple[Any, ...]]) -> list[Any]:
        """Run `method(shard, *arguments)` beside every shard, with arguments of its own."""
        calls = [self._call(shard, method, list(arguments)) for shard, arguments in enumerate(per_shard)]
        given = zip(calls, per_shard, strict=True)
        return [self._result(shard, call, method, list(mine)) for shard, (call, mine) in enumerate(given)]

    def close(self) -> None:
        """End the actors."""
        for actor in self._actors:
            ray.kill(actor)
        remove_placement_group(self._group)

    def _start(self, number: int) -> Any:
        mine = {shard: self._make[shard] for shard, owner in enumerate(self._owner) if owner == number}
        place = PlacementGroupSchedulingStrategy(self._group, placement_group_bundle_index=number)
        return ray.remote(_Holder).options(num_cpus=1, scheduling_strategy=place).remote(mine)

    def _call(self, shard: int, method: str | Callable[..., Any], shared: list[Any]) -> Any:
        return self._actors[self._owner[shard]].call.remote(shard, method, *shared)

    def _result(self, shard: int, call: Any, method: str | Callable[..., Any], shared: list[Any]) -> Any:
        for _ in range(3):
            try:
                return ray.get(call)
            except (ray.exceptions.RayActorError, ray.exceptions.ObjectLostError):
                owner = self._owner[shard]
                try:  # another shard's call may have replaced it already
                    ray.get(self._actors[owner].alive.remote())
                except ray.exceptions.RayActorError:
                    self._actors[owner] = self._start(owner)
                call = self._call(shard, method, shared)
        return ray.get(call)


class _Holder:
    """The actor: some shards, made at the first call for each."""

    def __init__(self, makings: dict[int, tuple[Any, ...]]) -> None:
        self._makings, self._shards = makings, dict[int, Shard]()

    def alive(self) -> bool:
        return True

    def call(self, shard: int, method: str | Callable[..., Any], *arguments: Any) -> Any:
        if isinstance(method, str):
            return getattr(self._shard(shard), method)(*arguments)
        return method(self._shard(shard), *arguments)

    def _shard(self, shard: int) -> Shard:
        if shard not in self._shards:
            self._shards[shard] = Shard(*self._makings[shard])
        return self._shards[shard]


def _slices(parts: list[tuple[str, int]], start: int, stop: int) -> list[Slice]:
    """Where the rows [start, stop) of a table stand in its parts."""
    found, first = [], 0
    for part, count in parts:
        low, high = max(start - first, 0), min(stop - first, count)
        if low < high:
            found.append(Slice(part, low, high - low))
        first += count
    return found


def _rows(folder: StageDir, slices: list[Slice], columns: list[str], making: Making) -> pa.Table:
    out = pa.concat_tables([folder.read_part(s.part, columns).slice(s.offset, s.rows) for s in slices])
    if not np.array_equal(out.column("item_index").to_numpy(), np.arange(making.start, making.stop)):
        raise StorageError(f"{slices[0].part}: item_index is not 0..n-1 in order; delete {folder.root}, run again")
    return out
