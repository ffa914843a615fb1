"""Units of work: streamed by Ray Data through a pool of actors that hold what all units need, or a task each."""

import gc
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import reduce
from operator import add
from typing import Any, TypeVar

import numpy as np
import ray

Worker = Callable[..., Callable[[dict[str, np.ndarray]], dict[str, np.ndarray]]]
"""A class; its instances take a batch of one unit, a column per key, and return what they tell of it."""
FAN = 8
"""Results that are added at once."""
T = TypeVar("T")


def stream(
    worker: Worker, arguments: tuple[Any, ...], units: Sequence[Mapping[str, Any]], actors: int, gpus: float = 0
) -> Iterator[dict[str, Any]]:
    """What actors `worker(*arguments)` tell of each unit, as units get done.

    Args:
        actors: at most so many, each with a CPU, or with `gpus` GPUs.
    """
    yield from rows_of(
        ray.data.from_items(list(units), override_num_blocks=len(units)).map_batches(
            worker,
            fn_constructor_args=arguments,
            batch_size=1,
            compute=ray.data.ActorPoolStrategy(size=min(actors, len(units))),
            num_cpus=0 if gpus else 1,
            num_gpus=gpus,
        )
    )


def tasks(jobs: Sequence[Callable[[], Any]]) -> list[Any]:
    """What each job returns, in order: every job is a task with a CPU."""
    return list(ray.get([_call.remote(job) for job in jobs]))


def here(jobs: Sequence[Callable[[], Any]]) -> list[Any]:
    """What `tasks` does, in this process: little is done before processes have started."""
    return [job() for job in jobs]


def summed(call: Callable[..., T], units: Sequence[Any], *shared: Any) -> T:
    """The sum of what `call(unit, *shared)` gives for every unit: a task each, with a CPU.

    Tasks add, too, FAN results at a time and in their order, so that nobody holds more than these, and so that the
    shape of the tree depends on the number of units alone.
    """
    kept = [ray.put(one) for one in shared]  # once, not with every task
    found = [_call_on.remote(call, unit, *kept) for unit in units]
    while len(found) > 1:
        found = [_add.remote(*found[begin : begin + FAN]) for begin in range(0, len(found), FAN)]
    whole: T = ray.get(found[0])
    return whole


@ray.remote
def _call(job: Callable[[], Any]) -> Any:
    return job()


@ray.remote
def _call_on(call: Callable[..., Any], unit: Any, *shared: Any) -> Any:
    return call(unit, *shared)


@ray.remote
def _add(*parts: Any) -> Any:
    return reduce(add, parts)


def rows_of(dataset: "ray.data.Dataset") -> Iterator[dict[str, Any]]:
    """The rows of a pipeline, as they come. Whatever stops it, its actors give their CPUs back at once.

    Ray keeps them for as long as anything refers to the pipeline, as the frames of its error's traceback do: whoever
    looks at the error would keep the next stage waiting for these CPUs, without end.
    """
    found = dataset.iter_rows()
    del dataset
    try:
        yield from found
    except BaseException as error:
        del found
        told: BaseException | None = error
        while told is not None:
            told.__traceback__ = None
            told = told.__cause__ or told.__context__
        gc.collect()
        raise
