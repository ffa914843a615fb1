"""Which exceptions become messages for the user, however deep they are wrapped."""

import errno

import pytest
from ray.exceptions import ActorDiedError, RayTaskError

from lgsid_ray.errors import ConfigError, InputError, StorageError
from lgsid_ray.execution.failure import explain


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


def test_a_full_disk_is_told_even_where_an_error_of_ours_names_the_file() -> None:
    try:
        raise StorageError("cannot write a.parquet") from OSError(errno.ENOSPC, "x")
    except StorageError as error:
        found = str(explain(error))
    assert "no space left" in found
    assert "(cannot write a.parquet)" in found


def test_what_ray_raises_gives_our_message_and_not_its_traceback() -> None:
    task = RayTaskError("f", "Traceback (most recent call last):\n  File ...", InputError("items.csv: row 3"))
    raised = task.as_instanceof_cause()
    assert isinstance(raised, InputError)
    assert "File ..." in str(raised)
    assert str(explain(raised)) == "items.csv: row 3"


TRACE = (
    "ValueError: deep\n\nThe above exception was the direct cause of the following exception:\n\n"
    'ray::Map(run)()\n  File "scan.py", line 1, in scan\n'
    "lgsid_ray.errors.InputError: items.csv: row 3\nand row 4"
)


@pytest.mark.parametrize(
    "tail", ["", "\n", "\n\nThe above exception was the direct cause of the following exception:\n\nx"]
)
def test_an_error_of_ours_is_read_out_of_text_where_ray_keeps_nothing_else(tail: str) -> None:
    for error in (
        RuntimeError(TRACE + tail),
        ActorDiedError(RayTaskError("__init__", TRACE + tail, ValueError("lost"))),
    ):
        found = explain(error)
        assert type(found) is InputError
        assert str(found) == "items.csv: row 3\nand row 4"
    assert explain(RuntimeError("lgsid_ray.errors.Nonsense: x")) is None
