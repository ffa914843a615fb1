"""Units of work, streamed by Ray Data through a pool of actors that hold what all units need."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import ray

Worker = Callable[..., Callable[[dict[str, np.ndarray]], dict[str, np.ndarray]]]
"""A class; its instances take a batch of one unit, a column per key, and return what they tell of it."""


def stream(
    worker: Worker, arguments: tuple[Any, ...], units: Sequence[Mapping[str, Any]], actors: int, gpus: float = 0
) -> Iterator[dict[str, Any]]:
    """What actors `worker(*arguments)` tell of each unit, as units get done.

    Args:
        actors: at most so many, each with a CPU, or with `gpus` GPUs.
    """
    done = ray.data.from_items(list(units), override_num_blocks=len(units)).map_batches(
        worker,
        fn_constructor_args=arguments,
        batch_size=1,
        compute=ray.data.ActorPoolStrategy(size=min(actors, len(units))),
        num_cpus=0 if gpus else 1,
        num_gpus=gpus,
    )
    yield from done.iter_rows()
