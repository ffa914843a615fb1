"""From an exception to the message and exit code that the user sees."""

import errno
import re
from collections.abc import Iterator

from lgsid_ray import errors
from lgsid_ray.errors import LgsidError, StorageError

_NO_SPACE = re.compile(r"No space left on device|\[Errno 28\]|OutOfDiskError|disk.*is (over|full)", re.IGNORECASE)
# One of our own errors in the text of a traceback; its message ends where the traceback goes on.
_OWN = re.compile(rf"{re.escape(errors.__name__)}\.(\w+): (.+?)\s*(?=\n\n|\Z)", re.DOTALL)


def explain(error: BaseException) -> LgsidError | None:
    """The user-facing error behind `error`, or None when it is a bug.

    Ray wraps what a worker raised, several layers deep, so the whole chain of causes is searched. A full disk
    can surface as anything from an OSError to an Arrow error, and is recognised by its number or its words.
    """
    own = next(filter(None, map(_itself, _chain(error))), None) or next(filter(None, map(_told, _chain(error))), None)
    for link in _chain(error):
        full = isinstance(link, OSError) and link.errno == errno.ENOSPC
        if full or _NO_SPACE.search(str(link)):
            return StorageError(
                "no space left on the disk that holds the run directory or Ray's temporary files"
                f"{f' ({own})' if own else ''}; free some, then give the same command again: finished stages are kept"
            )
    if own is not None:
        return own
    for link in _chain(error):
        if isinstance(link, PermissionError):
            return StorageError(f"permission denied: {link.filename or link}")
    return None


def _itself(link: BaseException) -> LgsidError | None:
    # What Ray raises is of the class of its cause as well, but its text is a traceback.
    wrapped = isinstance(getattr(link, "cause", None), LgsidError)
    return link if isinstance(link, LgsidError) and not wrapped else None


def _told(link: BaseException) -> LgsidError | None:
    """The error of ours that the text of `link` tells of: Ray Data and dead actors pass on nothing else."""
    found = list(_OWN.finditer(str(link)))
    kind = getattr(errors, found[-1][1], None) if found else None
    return kind(found[-1][2]) if isinstance(kind, type) and issubclass(kind, LgsidError) else None


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
