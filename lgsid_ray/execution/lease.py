"""One writer per stage folder: a second process waits for the first, and takes over from one that died.

On a local disk the kernel's lock on `.lock` does it, which ends with its process. Elsewhere it is a lease: the object
`.lease/000001`, put on condition that it does not exist yet, and written again every few seconds by its holder. Who
sees it stand still for long enough puts `.lease/000002`: only one can, and from then on the first holder has lost,
whatever it still writes. No clock is compared with another machine's.
"""

import fcntl
import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import count
from typing import Any, Protocol

from lgsid_ray.errors import StorageError
from lgsid_ray.execution.storage import StageDir

_FOLDER = ".lease"


@dataclass(frozen=True)
class Pace:
    """How often a lease is renewed and looked at; the defaults give a holder up after 90 silent seconds."""

    renew_s: float = 20.0
    look_s: float = 5.0
    patience: int = 18
    """Looks in a row at an unchanged lease after which its holder counts as dead."""
    tell: int = 12
    """Looks between two lines that say who is waited for."""
    settle_s: float = 1.0
    """Pause between putting a lease and reading it back, for stores that do not mind the condition of the put."""
    pause: Callable[[float], None] = time.sleep


class Lease(Protocol):
    """The right to write a stage's folder."""

    def check(self) -> None:
        """Raise StorageError where another process has taken the folder over; call it before publishing."""


@contextmanager
def hold(folder: StageDir, log: Callable[[str], None], pace: Pace = Pace()) -> Iterator[Lease]:
    """Be the folder's only writer for the block; where another process is, wait for it and say so.

    Raises:
        StorageError: the lock or the lease cannot be written.
    """
    if folder.is_local:
        with _locked(folder, log):
            yield _Lock()
        return
    lease = _ObjectLease(folder, log, pace)
    lease.acquire()
    try:
        yield lease
    finally:
        lease.release()


class _Lock:
    def check(self) -> None:
        """Nobody takes over from the kernel's lock while its process lives."""


@contextmanager
def _locked(folder: StageDir, log: Callable[[str], None]) -> Iterator[None]:
    with open(folder.path(".lock"), "w", encoding="ascii") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            log(f"{folder.root}: another process is computing this stage; waiting for it")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


class _ObjectLease:
    """A numbered object that its holder keeps changing; the highest number is the one that counts."""

    def __init__(self, folder: StageDir, log: Callable[[str], None], pace: Pace) -> None:
        self._folder, self._log, self._pace = folder, log, pace
        self._number, self._beat, self._token = 0, 0, uuid.uuid4().hex
        self._since = datetime.now(UTC).isoformat(timespec="seconds")
        self._stop = threading.Event()
        self._renewal = threading.Thread(target=self._renew, daemon=True, name="lease")

    def acquire(self) -> None:
        """Return as soon as the lease is this process's."""
        self._folder.child(_FOLDER).make()
        seen, unchanged = None, 0
        for look in count():
            number, found = self._latest()
            unchanged = unchanged + 1 if found == seen else 0
            seen, holder = found, _parsed(found)
            dead = unchanged >= self._pace.patience
            if (found is None or holder.get("released") or dead) and self._take(number + 1):
                if dead:
                    self._log(f"{self._folder.root}: {_who(holder)} shows no sign of life any more; taken over")
                self._renewal.start()
                return
            if look % self._pace.tell == 0:
                self._log(f"{self._folder.root}: {_who(holder)} is computing this stage; waiting for it")
            self._pace.pause(self._pace.look_s)

    def check(self) -> None:
        """Raise StorageError where another process has taken over."""
        if not self._is_mine():
            raise StorageError(
                f"{self._folder.root}: another process has taken this stage over, since this one was not heard of "
                "for too long; nothing was published here; give the same command again to wait for the other's result"
            )

    def release(self) -> None:
        """Let the next one in; where that fails, the lease stands still and is taken over in time."""
        self._stop.set()
        self._renewal.join()
        with suppress(Exception):  # each store's driver has errors of its own
            if self._is_mine():
                self._put("overwrite", released=True)

    def _take(self, number: int) -> bool:
        self._number = number
        try:
            self._put("create")
        except OSError as error:  # FileExistsError, though some stores say it otherwise: another was quicker
            if self._read(number) is None:
                raise StorageError(f"cannot write {self._path(number)}: {error}") from error
        self._pace.pause(self._pace.settle_s)
        return self._is_mine()

    def _renew(self) -> None:
        while not self._stop.wait(self._pace.renew_s):
            with suppress(Exception):  # a store out of reach: the next beat tries again, and `check` decides
                if not self._is_mine():
                    return
                self._beat += 1
                self._put("overwrite")

    def _is_mine(self) -> bool:
        number, found = self._latest()
        return number == self._number and _parsed(found).get("token") == self._token

    def _latest(self) -> tuple[int, bytes | None]:
        number = max((int(name) for name in self._folder.members(_FOLDER)), default=0)
        return number, self._read(number)

    def _read(self, number: int) -> bytes | None:
        try:
            return bytes(self._folder.fs.cat_file(self._path(number)))
        except FileNotFoundError:
            return None

    def _put(self, mode: str, released: bool = False) -> None:
        told = {"host": socket.gethostname(), "pid": os.getpid(), "since": self._since, "token": self._token}
        content = json.dumps({**told, "beat": self._beat, "released": released}).encode()
        self._folder.fs.pipe_file(self._path(self._number), content, mode=mode)

    def _path(self, number: int) -> str:
        return self._folder.path(_FOLDER, f"{number:06d}")


def _parsed(found: bytes | None) -> dict[str, Any]:
    try:
        return dict(json.loads(found or b"{}"))
    except ValueError:  # being written just now, on a store without atomic replacement
        return {}


def _who(holder: dict[str, Any]) -> str:
    if not holder:
        return "another process"
    return f"process {holder['pid']} on {holder['host']} (since {holder['since']} by its clock)"
