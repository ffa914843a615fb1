"""Peak memory of a stage: this process and all its descendants, Ray's included, shared pages counted once."""

import os
import threading
import time
from types import TracebackType
from typing import Self

import psutil


class PeakMemory:
    """Samples the proportional set size (PSS) of the process tree while the block runs.

    PSS splits a shared page among the processes that map it, so the object store is counted once; resident
    size would count it once per worker. On a remote cluster only the driver is seen.
    """

    def __init__(self, interval_s: float = 1.0) -> None:
        self.peak_mb = 0.0
        self._interval_s = interval_s
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True, name="peak-memory")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        while True:
            started = time.monotonic()
            self.peak_mb = max(self.peak_mb, tree_mb())
            # The kernel walks page tables for each answer; on a busy machine that takes long, so ask less often.
            pause = max(self._interval_s, 5 * (time.monotonic() - started))
            if self._stop.wait(pause):
                return


def tree_mb() -> float:
    """PSS in MiB of this process and its descendants, now."""
    process = psutil.Process(os.getpid())
    return sum(_pss_mb(member) for member in [process, *process.children(recursive=True)])


def _pss_mb(process: psutil.Process) -> float:
    try:
        with open(f"/proc/{process.pid}/smaps_rollup", encoding="ascii") as file:
            for line in file:
                if line.startswith("Pss:"):
                    return int(line.split()[1]) / 1024
        return 0.0
    except FileNotFoundError:
        pass  # the process has just ended, or the system has no /proc
    except (PermissionError, ProcessLookupError):
        return 0.0
    try:
        return float(process.memory_info().rss) / 2**20
    except psutil.Error:
        return 0.0
