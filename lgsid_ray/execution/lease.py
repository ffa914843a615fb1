"""stub until merge"""

import fcntl
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class Lease:
    def check(self) -> None: ...


@contextmanager
def hold(out, log: Callable[[str], None]) -> Iterator[Lease]:
    if not out.is_local:
        yield Lease()
        return
    with open(out.path(".lock"), "w", encoding="ascii") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            log(f"{out.root}: another process is computing this stage; waiting for it")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield Lease()
