"""Joining a Ray cluster, or starting a private one on this machine."""

import logging
import os
import shutil
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import ray
import ray.data

from lgsid_ray.config.cluster import RayConfig
from lgsid_ray.errors import ConfigError

_PREFIX = "lgsid-ray-"


@contextmanager
def ray_session(config: RayConfig) -> Iterator[None]:
    """Ray for the block: the cluster of `config.address` or RAY_ADDRESS where there is one, else a local one.

    The local one has a temporary directory of its own, so that it neither joins nor disturbs another cluster
    on the host. An already running session (tests, Tune) is used as it is.

    Raises:
        ConfigError: the named cluster does not answer.
    """
    _quiet()
    if ray.is_initialized():
        yield
        return
    address = config.address or os.environ.get("RAY_ADDRESS")
    if address and address != "local":
        try:
            ray.init(address=address, log_to_driver=False)
        except (ConnectionError, RuntimeError, ValueError) as error:
            raise ConfigError(f"ray.address {address}: cannot connect: {error}") from None
        try:
            yield
        finally:
            ray.shutdown()
        return
    # Short path: Ray's sockets live below it, and a Unix socket's path has at most 107 bytes.
    _sweep()
    with tempfile.TemporaryDirectory(prefix=f"{_PREFIX}{os.getpid()}-", ignore_cleanup_errors=True) as folder:
        before = os.environ.get("RAY_TMPDIR")
        os.environ["RAY_TMPDIR"] = folder
        ray.init(
            address="local",
            num_cpus=config.cpus,
            object_store_memory=config.object_store_mb * 2**20,
            include_dashboard=config.dashboard,
            dashboard_host="127.0.0.1",
            _temp_dir=folder,
            log_to_driver=False,
            logging_level=logging.WARNING,
        )
        try:
            yield
        finally:
            ray.shutdown()
            if before is None:
                del os.environ["RAY_TMPDIR"]
            else:
                os.environ["RAY_TMPDIR"] = before


def _quiet() -> None:
    """Leave the terminal to this project's own lines: workers' logs stay in Ray's log files."""
    # Ray prints the trace of every error that it also raises, and of those that came second.
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)
    os.environ["RAY_IGNORE_UNHANDLED_ERRORS"] = "1"
    logging.getLogger("ray._private.authentication").setLevel(logging.ERROR)
    logging.getLogger("DeepSpeed").addFilter(_is_error)  # a level of ours would be overwritten at its import
    warnings.filterwarnings("ignore", category=FutureWarning, module="transformers")
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False


def _is_error(record: logging.LogRecord) -> bool:
    return record.levelno >= logging.ERROR


def _sweep() -> None:
    """Remove what killed drivers left in the temporary directory: a session's folder bears its driver's number."""
    for folder in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        owner = folder.name.removeprefix(_PREFIX).partition("-")[0]
        if owner.isdigit() and not psutil.pid_exists(int(owner)):
            shutil.rmtree(folder, ignore_errors=True)
