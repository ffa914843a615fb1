"""Which exceptions become messages for the user, however deep they are wrapped."""

import errno

from lgsid_ray.errors import ConfigError, InputError, StorageError
from lgsid_ray.failure import explain


def test_own_error_is_found_below_wrappers() -> None:
    inner, outer = InputError("items.csv: row 3"), RuntimeError("task failed")
    outer.__cause__ = ValueError("worker failed")
    outer.__cause__.__context__ = inner
    assert explain(outer) is inner


def test_full_disk_by_number_and_by_words() -> None:
    for error in (OSError(errno.ENOSPC, "x"), RuntimeError("[Errno 28] No space left on device")):
        found = explain(error)
        assert isinstance(found, StorageError)
        assert "space" in str(found)
        assert found.exit_code == 5


def test_a_bug_stays_a_bug() -> None:
    assert explain(ZeroDivisionError("1/0")) is None
    assert explain(ConfigError("x")).exit_code == 2  # type: ignore[union-attr]


def test_errors_of_train_workers_are_found() -> None:
    error = RuntimeError("training failed")
    error.worker_failures = {1: InputError("rank 1")}  # type: ignore[attr-defined]
    assert str(explain(error)) == "rank 1"
