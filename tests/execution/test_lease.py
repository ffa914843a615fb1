"""One writer per stage folder: who waits, who takes over from the dead, and who learns that it lost."""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from lgsid_ray.errors import StorageError
from lgsid_ray.execution.lease import Pace, hold
from lgsid_ray.execution.storage import StageDir

# Never renewed within a test unless it says so, and nobody is ever given up.
STILL = Pace(renew_s=3600, look_s=1, patience=10**9, tell=2, settle_s=0, pause=lambda seconds: None)


@pytest.fixture(params=["memory", "s3"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> StageDir:
    home = "memory://leases" if request.param == "memory" else request.getfixturevalue("bucket")
    return StageDir(f"{home}/{tmp_path.name}")


class Second:
    """Another driver, in a thread: wants the folder, and keeps it until it is told to leave."""

    def __init__(self, folder: StageDir, pace: Pace) -> None:
        self.lines: list[str] = []
        self.entered, self._leave = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, args=(folder, pace), daemon=True)
        self._thread.start()

    def _run(self, folder: StageDir, pace: Pace) -> None:
        with hold(folder, self.lines.append, pace):
            self.entered.set()
            self._leave.wait(60)

    def leave(self) -> None:
        assert self.entered.wait(60)
        self._leave.set()
        self._thread.join(60)
        assert not self._thread.is_alive()


def looks(times: int) -> tuple[Callable[[float], None], threading.Event]:
    """A pause that counts, and the event of its having been called so often."""
    done, left = threading.Event(), iter(range(times))

    def pause(seconds: float) -> None:
        if next(left, None) is None:
            done.set()
        done.wait(0.01)

    return pause, done


def content(folder: StageDir) -> bytes:
    (newest,) = sorted(folder.members(".lease"))[-1:]
    return bytes(folder.fs.cat_file(folder.path(".lease", newest)))


def test_the_second_waits_for_the_first_and_says_for_whom(folder: StageDir) -> None:
    pause, done = looks(5)
    with hold(folder, print, STILL) as first:
        second = Second(folder, replace(STILL, pause=pause))
        assert done.wait(60)
        assert not second.entered.is_set()
        first.check()
    second.leave()
    assert len(second.lines) >= 2  # every so often, not once
    assert f"process {os.getpid()} on" in second.lines[0]
    assert folder.root in second.lines[0]


def test_who_renews_is_never_given_up(folder: StageDir) -> None:
    seen, renewed, ten = b"", iter(range(10)), threading.Event()

    def pause(seconds: float) -> None:  # until the first has renewed
        nonlocal seen
        while (now := content(folder)) == seen:
            pass
        seen = now
        if next(renewed, None) is None:
            ten.set()

    with hold(folder, print, replace(STILL, renew_s=0.01)) as first:
        second = Second(folder, replace(STILL, patience=2, pause=pause))
        assert ten.wait(60)
        assert not second.entered.is_set()
        first.check()
    second.leave()


def test_who_stands_still_loses_the_folder_and_is_told_so(folder: StageDir) -> None:
    with hold(folder, print, STILL) as first:
        first.check()
        lines: list[str] = []
        with hold(folder, lines.append, replace(STILL, patience=3)) as second:
            assert "no sign of life" in lines[-1]
            second.check()
            with pytest.raises(StorageError, match="another process has taken this stage over"):
                first.check()
        with pytest.raises(StorageError):  # nor once the second is done
            first.check()
    with hold(folder, print, STILL) as third:  # the first's end has freed or taken nothing
        third.check()


def test_a_lost_lease_is_not_renewed(folder: StageDir) -> None:
    with hold(folder, print, replace(STILL, renew_s=0.01)):
        folder.fs.pipe_file(folder.path(".lease", "000002"), b'{"token": "rival"}')
        (renewal,) = [thread for thread in threading.enumerate() if thread.name == "lease"]
        renewal.join(60)
        assert not renewal.is_alive()
    assert json.loads(folder.read(".lease/000002")) == {"token": "rival"}


def test_an_error_in_the_block_frees_the_folder_at_once(folder: StageDir) -> None:
    def never(seconds: float) -> None:
        assert seconds == STILL.settle_s, "waited"

    with pytest.raises(ZeroDivisionError), hold(folder, print, STILL):
        raise ZeroDivisionError
    with hold(folder, print, replace(STILL, pause=never)) as second:
        second.check()


def test_a_store_that_lets_a_rival_overwrite_is_found_out(folder: StageDir) -> None:
    rival = {"host": "elsewhere", "pid": 7, "since": "noon", "token": "rival"}
    steps = iter([rival, {**rival, "released": True}])

    def pause(seconds: float) -> None:  # first the moment before the lease is read back, then the wait for the rival
        if step := next(steps, None):
            folder.fs.pipe_file(folder.path(".lease", "000001"), json.dumps(step).encode())

    lines: list[str] = []
    with hold(folder, lines.append, replace(STILL, tell=1, pause=pause)) as lease:
        lease.check()
    assert folder.members(".lease") == {"000001", "000002"}


def test_a_killed_process_is_succeeded(bucket: str, tmp_path: Path) -> None:
    uri = f"{bucket}/{tmp_path.name}"
    script = (
        "import time; from lgsid_ray.execution.lease import hold; from lgsid_ray.execution.storage import StageDir\n"
        f"with hold(StageDir({uri!r}), print): print('held', flush=True); time.sleep(600)"
    )
    holder = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    holder.kill()
    holder.wait()
    lines: list[str] = []
    with hold(StageDir(uri), lines.append, replace(STILL, patience=3)) as lease:
        lease.check()
    assert f"process {holder.pid} on" in lines[-1]


def test_a_folder_that_cannot_be_written_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    folder = StageDir("memory://leases/read-only")

    def refuse(*args: object, **kwargs: object) -> None:
        raise PermissionError("read-only")

    monkeypatch.setattr(type(folder.fs), "pipe_file", refuse)
    with pytest.raises(StorageError, match="cannot write"), hold(folder, print, STILL):
        pass


def test_local_folders_are_locked_by_the_kernel(tmp_path: Path) -> None:
    folder, told = StageDir(str(tmp_path)), threading.Event()
    lines: list[str] = []

    def log(line: str) -> None:
        lines.append(line)
        told.set()

    def second() -> None:
        with hold(folder, log):
            lines.append("entered")

    with hold(folder, print) as first:
        thread = threading.Thread(target=second)
        thread.start()
        assert told.wait(60)
        assert len(lines) == 1
        first.check()
    thread.join(60)
    assert lines == [f"{folder.root}: another process is computing this stage; waiting for it", "entered"]
