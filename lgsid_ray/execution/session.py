"""Joining a Ray cluster, or starting a private one on this machine."""

import fcntl
import logging
import os
import shutil
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import ray

from lgsid_ray.config.cluster import RayConfig
from lgsid_ray.errors import ConfigError, LgsidError

_PREFIX = "lgsid-ray-"
_ENVIRONMENT = {
    # Ray prints the trace of every error that it also raises, and of those that came second.
    "RAY_IGNORE_UNHANDLED_ERRORS": "1",
    # Its C++ side calls it an error that a pool of actors has arguments, which Ray Data's all have.
    "RAY_BACKEND_LOG_LEVEL": "fatal",
    "RAY_DATA_LOG_LEVEL": "CRITICAL",
    "RAY_DATA_DISABLE_PROGRESS_BARS": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
}


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
            with _without_greeting():
                ray.init(address=address, log_to_driver=False)
        except (ConnectionError, RuntimeError, ValueError) as error:
            raise ConfigError(f"ray.address {address}: cannot connect: {error}") from None
        try:
            yield
        finally:
            ray.shutdown()
        return
    with session_folder() as folder:
        before = os.environ.get("RAY_TMPDIR")
        os.environ["RAY_TMPDIR"] = str(folder)
        try:
            _start_here(config, folder)
            yield
        finally:
            ray.shutdown()
            if before is None:
                del os.environ["RAY_TMPDIR"]
            else:
                os.environ["RAY_TMPDIR"] = before


def _start_here(config: RayConfig, folder: Path) -> None:
    """Start a private Ray.

    Raises:
        LgsidError: it does not come up.
    """
    try:
        with _without_greeting():
            ray.init(
                address="local",
                num_cpus=config.cpus,
                object_store_memory=config.object_store_mb * 2**20,
                include_dashboard=config.dashboard,
                dashboard_host="127.0.0.1",
                _temp_dir=str(folder),
                log_to_driver=False,
                logging_level=logging.WARNING,
            )
    except Exception as error:  # Ray raises that very class where a node comes up too slowly
        raise LgsidError(f"Ray did not start on this machine: {error}; give the same command again") from error


@contextmanager
def session_folder() -> Iterator[Path]:
    """A new folder for a private Ray, removed at the end; what killed drivers have left goes first.

    A lock on it tells that its driver lives, also to those who share the temporary directory but see no common
    process numbers, as containers do.
    """
    for left in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        with _locked(left, wait=False) as abandoned:
            if abandoned:
                shutil.rmtree(left, ignore_errors=True)
    while True:
        # Short path: Ray's sockets live below it, and a Unix socket's path has at most 107 bytes.
        folder = Path(tempfile.mkdtemp(prefix=_PREFIX))
        with _locked(folder, wait=True) as mine:
            if mine:  # otherwise another driver took it for abandoned before it was locked
                try:
                    yield folder
                finally:
                    shutil.rmtree(folder, ignore_errors=True)
                return


@contextmanager
def _locked(folder: Path, wait: bool) -> Iterator[bool]:
    """Hold the folder's lock; False where it is another's, or the folder is gone."""
    try:
        handle = os.open(folder, os.O_RDONLY)
    except OSError:
        yield False
        return
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            held = folder.exists()
        except OSError:
            held = wait  # no locks on this file system: nobody takes anything for abandoned there
        yield held
    finally:
        os.close(handle)


def _quiet() -> None:
    """Leave the terminal to this project's own lines: workers' logs stay in Ray's log files."""
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    logging.getLogger("ray._private.authentication").setLevel(logging.ERROR)
    logging.getLogger("DeepSpeed").addFilter(_is_error)  # a level of ours would be overwritten at its import
    warnings.filterwarnings("ignore", category=FutureWarning, module="transformers")


def _is_error(record: logging.LogRecord) -> bool:
    return record.levelno >= logging.ERROR


@contextmanager
def _without_greeting() -> Iterator[None]:
    """Drop the line in which Ray's C++ side tells its level of logging, past Python's own streams."""
    with tempfile.TemporaryFile() as aside:
        terminal = os.dup(2)
        os.dup2(aside.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(terminal, 2)
            os.close(terminal)
            aside.seek(0)
            for line in aside:
                if b" logging.cc:" not in line:
                    os.write(2, line)
