"""Fixtures shared by all tests."""

import os
import tempfile
from collections.abc import Iterator

import pytest

# Tests work on small arrays: more threads than one wait for each other, for minutes where other processes run too.
os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(scope="session")
def ray_local() -> Iterator[None]:
    """A private two-CPU Ray for the whole test session; it joins no other cluster on the host."""
    from lgsid_ray.config.cluster import RayConfig
    from lgsid_ray.execution.session import ray_session

    with ray_session(RayConfig(address="local", cpus=2, object_store_mb=256)):
        yield


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
