"""From an exception to the message and exit code that the user sees."""

import errno
import re
from collections.abc import Iterator

from lgsid_ray.errors import LgsidError, StorageError

_NO_SPACE = re.compile(r"No space left on device|\[Errno 28\]|OutOfDiskError|disk.*is (over|full)", re.IGNORECASE)


def explain(error: BaseException) -> LgsidError | None:
    """The user-facing error behind `error`, or None when it is a bug.

    Ray wraps what a worker raised, several layers deep, so the whole chain of causes is searched. A full disk
    can surface as anything from an OSError to an Arrow error, and is recognised by its number or its words.
    """
    for link in _chain(error):
        if isinstance(link, LgsidError):
            return link
    for link in _chain(error):
        full = isinstance(link, OSError) and link.errno == errno.ENOSPC
        if full or _NO_SPACE.search(str(link)):
            return StorageError(
                "no space left on the disk that holds the run directory or Ray's temporary files; free some, "
                "then give the same command again: finished stages are kept"
            )
        if isinstance(link, PermissionError):
            return StorageError(f"permission denied: {link.filename or link}")
    return None


def _chain(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    pending: list[BaseException | None] = [error]
    while pending:
        link = pending.pop(0)
        if link is None or id(link) in seen:
            continue
        seen.add(id(link))
        yield link
        # RayTaskError keeps the original in `cause`; Train keeps one error per worker.
        pending += [link.__cause__, getattr(link, "cause", None), link.__context__]
        per_worker = getattr(link, "worker_failures", None)
        if isinstance(per_worker, dict):
            pending += list(per_worker.values())
