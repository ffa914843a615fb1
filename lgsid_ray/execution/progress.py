"""How far a training loop is: rank 0 tells through a file in the stage's folder, the driver shows it.

A file, because the loop may run on another machine and its prints are lost among those of Ray's own processes.
"""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from lgsid_ray.errors import StorageError
from lgsid_ray.execution.storage import StageDir

_FILE = "progress.json"
_EVERY_S = 10.0


class Told:
    """Writes progress at most every few seconds."""

    def __init__(self, out: StageDir) -> None:
        self._out, self._last = out, 0.0

    def tell(self, step: int, steps: int, figures: dict[str, float]) -> None:
        """Say that `step` of `steps` is done, with its figures."""
        if time.monotonic() - self._last >= _EVERY_S:
            self._last = time.monotonic()
            with suppress(StorageError):  # training does not end because nobody can be told how far it is
                self._out.write_json(_FILE, {"step": step, "steps": steps, "figures": figures})


@contextmanager
def shown(out: StageDir) -> Iterator[None]:
    """Print what `Told` writes, for as long as the block runs; the file is removed at its end."""
    stop = threading.Event()
    watcher = threading.Thread(target=_watch, args=(out, stop), daemon=True, name="progress")
    watcher.start()
    try:
        yield
    finally:
        stop.set()
        watcher.join()
        out.remove(_FILE)


def _watch(out: StageDir, stop: threading.Event) -> None:
    seen = None
    while not stop.wait(_EVERY_S):
        try:
            told = out.read_json(_FILE) if out.exists(_FILE) else None
        except StorageError:  # being written just now, on a store without atomic replacement
            continue
        if told and told != seen:
            seen = told
            figures = ", ".join(f"{name} {value:.4g}" for name, value in list(told["figures"].items())[:6])
            print(f"  step {told['step']}/{told['steps']}: {figures}", flush=True)
