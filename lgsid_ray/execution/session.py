"""Joining a Ray cluster, or starting a private one on this machine."""

import fcntl
import logging
import os
import shutil
import signal
import tempfile
import threading
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import ray

from lgsid_ray.config.cluster import RayConfig
from lgsid_ray.errors import ConfigError, LgsidError

_PREFIX = "lgsid-ray-"
_STREAM_END_S = 30.0
_ENVIRONMENT = {
    # Ray prints the trace of every error that it also raises, and of those that came second.
    "RAY_IGNORE_UNHANDLED_ERRORS": "1",
    # Its C++ side calls it an error that a pool of actors has arguments, which Ray Data's all have.
    "RAY_BACKEND_LOG_LEVEL": "fatal",
    "RAY_DATA_LOG_LEVEL": "CRITICAL",
    "RAY_DATA_DISABLE_PROGRESS_BARS": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
}
_ALONE = {
    # Nobody takes this machine away from its own user: a process less for every training, some three seconds of a core.
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",
    # Nor does its only node get lost: one that does not answer for a minute, on a laptop asleep or a machine under
    # load, would be given up for dead, and everything wait for another without end.
    "RAY_health_check_failure_threshold": "1000",
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
        with _joined(address):
            yield
        return
    with session_folder() as folder, _environment(RAY_TMPDIR=str(folder), **_ALONE), _started_here(config, folder):
        yield


@contextmanager
def _environment(**values: str) -> Iterator[None]:
    """The block with these in the environment."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


@contextmanager
def _joined(address: str) -> Iterator[None]:
    """Part of the cluster at `address`.

    Raises:
        ConfigError: it does not answer.
    """
    with _beside(address=address) as failure:
        if isinstance(failure, (ConnectionError, RuntimeError, ValueError)):
            raise ConfigError(f"ray.address {address}: cannot connect: {failure}") from None
        if failure is not None:
            raise failure
        yield


@contextmanager
def _started_here(config: RayConfig, folder: Path) -> Iterator[None]:
    """A private Ray.

    Raises:
        LgsidError: it does not come up.
    """
    settings = {
        "address": "local",
        "num_cpus": config.cpus,
        "object_store_memory": config.object_store_mb * 2**20,
        "include_dashboard": config.dashboard,
        "dashboard_host": "127.0.0.1",
        "_temp_dir": str(folder),
        "logging_level": logging.WARNING,
    }
    with _beside(**settings) as failure:
        if failure is not None:  # Ray raises an Exception of no kind where a node comes up too slowly
            raise LgsidError(f"Ray did not start on this machine: {failure}; give the same command again") from failure
        yield


@contextmanager
def _beside(**settings: Any) -> Iterator[BaseException | None]:
    """Ray for the block, started in a thread of its own; yields why it did not start.

    In the main thread it would put a handler in the place of SIGTERM's, which ends the process without a word; its C++
    side does so anywhere, with one that prints a stack. The thread lives as long as Ray, whose processes die with it.
    """
    before = signal.getsignal(signal.SIGTERM)
    with ThreadPoolExecutor(1) as aside:
        try:
            with _without_greeting():
                started = aside.submit(ray.init, log_to_driver=False, **settings)
                try:
                    failure = started.exception()
                finally:  # a signal does not stop the thread
                    wait([started])
            if threading.current_thread() is threading.main_thread():
                signal.signal(signal.SIGTERM, before)
            yield failure
        finally:
            _end_streams()
            ray.shutdown()


def _end_streams() -> None:
    """End Ray Data's loops that an exception has left behind: one that finds Ray gone ends the process, silently."""
    for thread in threading.enumerate():
        if thread.name.startswith("StreamingExecutor"):  # a thread that is the executor
            cast(Any, thread).shutdown(force=False)
            thread.join(_STREAM_END_S)


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
    logging.getLogger("ray._private.worker").addFilter(lambda record: "SIGTERM handler" not in record.getMessage())
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
