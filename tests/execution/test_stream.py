"""Streams of units through actors: what they tell, and what is left of one that fails."""

import os
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
import ray

from lgsid_ray.execution.stream import FAN, rows_of, stream, summed, tasks

pytestmark = pytest.mark.usefixtures("ray_local")
Batch = dict[str, np.ndarray]
UNITS = [{"number": number} for number in range(6)]


def worker() -> Callable[..., Any]:
    """A class of this function's, so that actors need not import this file."""

    class Doubles:
        def __init__(self, refused: int) -> None:
            self._refused = refused

        def __call__(self, batch: Batch) -> Batch:
            if batch["number"][0] == self._refused:
                raise ValueError("refused")
            return {"double": 2 * batch["number"]}

    return Doubles


def free_cpus(least: float) -> float:
    """CPUs that nobody holds; waits some time for `least` of them."""
    until = time.monotonic() + 60
    while (free := ray.available_resources().get("CPU", 0.0)) < least and time.monotonic() < until:
        time.sleep(0.1)
    return free


def test_every_unit_is_told() -> None:
    assert sorted(row["double"] for row in stream(worker(), (-1,), UNITS, 2)) == [0, 2, 4, 6, 8, 10]


def test_one_that_fails_gives_its_cpus_back_though_its_error_is_kept() -> None:
    with pytest.raises(Exception, match="refused") as kept:
        list(stream(worker(), (3,), UNITS, 2))
    assert free_cpus(2.0) == 2.0
    assert "refused" in str(kept.value)


def test_one_that_nobody_reads_to_its_end_gives_them_back_too() -> None:
    some = stream(worker(), (-1,), UNITS, 2)
    next(some)
    some.close()  # type: ignore[attr-defined]
    assert free_cpus(2.0) == 2.0


def test_tasks_that_fail_are_told_with_their_reason() -> None:
    def refuse(row: dict[str, Any]) -> dict[str, Any]:
        raise ValueError("refused")

    with pytest.raises(Exception, match="refused"):
        list(rows_of(ray.data.from_items(UNITS).map(refuse)))


def test_jobs_are_done_by_other_processes_and_told_in_their_order() -> None:
    assert tasks([partial(pow, 2, number) for number in range(6)]) == [1, 2, 4, 8, 16, 32]
    assert os.getpid() not in tasks([os.getpid] * 3)
    with pytest.raises(ZeroDivisionError):
        tasks([partial(divmod, 1, 1), partial(divmod, 1, 0)])


@pytest.mark.parametrize("count", [1, FAN, FAN + 1, FAN * FAN + 3])
def test_what_tasks_give_is_added_in_the_order_of_the_units(count: int) -> None:
    # Lists add to lists in their order, so an exchange would show.
    assert summed(lambda unit, factor, shift: [factor * unit + shift], range(count), 10, 1) == [
        10 * unit + 1 for unit in range(count)
    ]
