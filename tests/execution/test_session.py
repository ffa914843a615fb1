"""The folder of a private Ray: whoever lives keeps it, whatever its process number."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from lgsid_ray.execution.session import session_folder

HOLD = (
    "import sys; from lgsid_ray.execution.session import session_folder\n"
    "with session_folder() as folder: print(folder, flush=True); sys.stdin.read()"
)


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The temporary directory of this process and of those it starts."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    return tmp_path


def start(script: str) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def test_it_lasts_as_long_as_its_driver(temporary: Path) -> None:
    driver = start(HOLD)
    assert driver.stdout is not None
    theirs = Path(driver.stdout.readline().strip())
    assert str(driver.pid) not in theirs.name  # in another container's eyes a number says nothing
    with session_folder() as mine:
        assert {theirs, mine} == set(temporary.iterdir())
    assert list(temporary.iterdir()) == [theirs]
    driver.kill()
    driver.wait()
    assert theirs.exists()
    with session_folder() as mine:
        assert list(temporary.iterdir()) == [mine]


def test_many_that_start_at_once_leave_each_other_alone(temporary: Path) -> None:
    """Threads contend for these locks as processes do."""

    def take_turns(driver: int) -> bool:
        lasted = True
        for _ in range(100):
            with session_folder() as folder:
                (folder / "socket").write_text("")
                lasted &= (folder / "socket").exists()
        return lasted

    with ThreadPoolExecutor(8) as drivers:
        assert all(drivers.map(take_turns, range(8)))
    assert not list(temporary.iterdir())


ABANDON = """
import threading, time, ray
from ray.data._internal.execution.streaming_executor import StreamingExecutor
from lgsid_ray.config.cluster import RayConfig
from lgsid_ray.execution.session import ray_session
step = StreamingExecutor._scheduling_loop_step
def slow(*args):
    time.sleep(2.6 * len(seen))  # Ray itself waits two seconds for it
    return step(*args)
StreamingExecutor._scheduling_loop_step = slow
seen = []
try:
    with ray_session(RayConfig(cpus=1)):
        rows = iter(ray.data.range(40, override_num_blocks=40).map(lambda row: row).iter_rows())
        seen.append(next(rows))
        raise KeyboardInterrupt
except KeyboardInterrupt:
    print([thread.name for thread in threading.enumerate() if "Streaming" in thread.name])
"""


def test_no_stream_outlives_its_ray() -> None:
    driver = start(ABANDON)
    told, _ = driver.communicate()
    assert (told, driver.returncode) == ("[]\n", 0)
