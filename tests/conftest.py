"""Fixtures shared by all tests."""

import os
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import settings

# Tests work on small arrays: more threads than one wait for each other, for minutes where other processes run too.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# Tests side by side are told a terminal's size, which rich takes for good when a console is made.
for name in ("COLUMNS", "LINES"):
    os.environ.pop(name, None)
# A test times nothing: by default one that other processes keep from the CPU for 200 ms fails.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")


@pytest.fixture(scope="module")
def ray_local() -> Iterator[None]:
    """A private two-CPU Ray for the tests of a module; it joins no other cluster on the host."""
    from lgsid_ray.config.cluster import RayConfig
    from lgsid_ray.execution.session import ray_session

    with ray_session(RayConfig(address="local", cpus=2, object_store_mb=256)):
        yield


@pytest.fixture(autouse=True)
def cpus_come_back(request: pytest.FixtureRequest) -> Iterator[None]:
    """Who leaves an actor with a CPU is named: a later test would wait for that CPU without end."""
    yield
    if "ray_local" not in request.fixturenames:
        return
    import ray

    until = time.monotonic() + 120
    while ray.available_resources().get("CPU", 0) < ray.cluster_resources()["CPU"]:
        if time.monotonic() > until:
            alive = [
                a for a in ray._private.state.actors().values() if a["State"] not in ("DEAD", "DEPENDENCIES_UNREADY")
            ]
            pytest.fail(f"CPUs are still taken after two minutes; actors that live: {alive}")
        time.sleep(0.1)


def stream_in_process(
    worker: Any, arguments: tuple[Any, ...], units: Sequence[Mapping[str, Any]], actors: int, gpus: float = 0
) -> Iterator[dict[str, Any]]:
    """`execution.stream.stream` without actors, for tests that do not turn on them: starting some takes seconds."""
    import torch

    threads = torch.get_num_threads()
    one = worker(*arguments)
    try:
        for unit in units:
            yield one({name: np.array([value]) for name, value in unit.items()})
    finally:
        torch.set_num_threads(threads)


@pytest.fixture
def run_uri() -> Iterator[str]:
    """An empty folder for a run directory."""
    with tempfile.TemporaryDirectory() as folder:
        yield f"{folder}/run"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what needs a running Ray, so that `-m "not ray"` leaves it out."""
    for item in items:
        if "ray_local" in getattr(item, "fixturenames", ()):
            item.add_marker("ray")
