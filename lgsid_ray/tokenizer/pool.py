"""The K-Means actor pool: shards stay in the actors, only centroids, sums and counts travel.

Items are cut into shards of equal length, whatever the number of actors, and results are added by a tree of fixed
shape over the shards, so neither the pool's size nor timing changes a digit. An actor that dies is replaced; the new
one reads its shard again and the call is repeated, with the same result.
"""

from functools import cached_property
from typing import Any

import ray
from ray.util.placement_group import placement_group, remove_placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from lgsid_ray.artifacts.spans import Span
from lgsid_ray.execution.storage import StageDir
from lgsid_ray.tokenizer.shard import FAN, Shard, added


class Pool:
    """A fixed set of actors, each with some shards.

    Args:
        spans: a shard each.
        actors: at most this many; never more than shards.
        out: see `Shards`.
    """

    def __init__(self, spans: list[Span], actors: int, out: StageDir | None = None) -> None:
        self._spans, self.out = spans, out
        # Never more actors than CPUs: those beyond would wait for ever while the others hold theirs. And all at once
        # or none: two pools that each got some of theirs would wait for each other.
        actors = max(1, min(actors, len(spans), int(ray.cluster_resources().get("CPU", 1))))
        self._owner = [shard % actors for shard in range(len(spans))]
        self._group = placement_group([{"CPU": 1.0}] * actors)
        self._actors = [self._start(number) for number in range(actors)]

    @cached_property
    def trained(self) -> int:
        """Training items."""
        return sum(self.map("count"))

    def map(self, method: str, *arguments: Any) -> list[Any]:
        """Call a method of every shard; results in the order of the shards."""
        shared, calls = self._calls(method, arguments)
        return [self._result(shard, call, method, shared) for shard, call in enumerate(calls)]

    def sum(self, method: str, *arguments: Any) -> Any:
        """See `Shards`: the actors add, so that the driver gets one result, whatever the number of shards."""
        shared, calls = self._calls(method, arguments)
        level = list(enumerate(calls))
        while len(level) > 1:
            groups = [level[begin : begin + FAN] for begin in range(0, len(level), FAN)]
            level = [
                (group[0][0], self._actors[self._owner[group[0][0]]].added.remote(*[call for _, call in group]))
                for group in groups
            ]
        try:
            return ray.get(level[0][1])
        except ray.exceptions.RayError:  # an actor died, or has a word to say: shard by shard it is told apart
            return added([self._result(shard, call, method, shared) for shard, call in enumerate(calls)])

    def close(self) -> None:
        """End the actors."""
        for actor in self._actors:
            ray.kill(actor)
        remove_placement_group(self._group)

    def _start(self, number: int) -> Any:
        mine = {shard: self._spans[shard] for shard, owner in enumerate(self._owner) if owner == number}
        place = PlacementGroupSchedulingStrategy(self._group, placement_group_bundle_index=number)
        return ray.remote(_Holder).options(num_cpus=1, scheduling_strategy=place).remote(mine)

    def _calls(self, method: str, arguments: tuple[Any, ...]) -> tuple[list[Any], list[Any]]:
        # Put once: every shard gets the same centroids.
        shared = [ray.put(argument) for argument in arguments]
        return shared, [self._call(shard, method, shared) for shard in range(len(self._owner))]

    def _call(self, shard: int, method: str, shared: list[Any]) -> Any:
        return self._actors[self._owner[shard]].call.remote(shard, method, *shared)

    def _result(self, shard: int, call: Any, method: str, shared: list[Any]) -> Any:
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

    def __init__(self, spans: dict[int, Span]) -> None:
        self._spans, self._shards = spans, dict[int, Shard]()

    def alive(self) -> bool:
        return True

    def added(self, *parts: Any) -> Any:
        return added(parts)

    def call(self, shard: int, method: str, *arguments: Any) -> Any:
        if shard not in self._shards:
            self._shards[shard] = Shard(self._spans[shard])
        return getattr(self._shards[shard], method)(*arguments)
