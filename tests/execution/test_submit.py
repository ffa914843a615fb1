"""What a job is, and a head that cannot start it yet; no cluster is needed."""

import os
import socket
from pathlib import Path
from typing import Any

import pytest

from lgsid_ray.errors import ConfigError
from lgsid_ray.execution import submit as jobs
from lgsid_ray.execution.submit import Job, submit

NO_AGENT = "Request failed with status code 500: No available agent to submit job, please try again later."


class Head:
    """A dashboard that refuses the first submissions."""

    def __init__(self, refusals: int, because: str = NO_AGENT) -> None:
        self._left, self._because = refusals, because
        self.accepted: list[dict[str, Any]] = []

    def __call__(self, address: str) -> "Head":
        return self

    def submit_job(self, **job: Any) -> str:
        if self._left:
            self._left -= 1
            raise RuntimeError(self._because)
        self.accepted.append(job)
        return "job-1"


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    (tmp_path / "jobs").mkdir()
    (tmp_path / "jobs" / "run.py").touch()
    return tmp_path


def send(
    head: Head, checkout: Path, monkeypatch: pytest.MonkeyPatch, address: str = "http://127.0.0.1:8265"
) -> list[str]:
    monkeypatch.setattr(jobs, "JobSubmissionClient", head)
    lines: list[str] = []
    task = Job("embed_aligned", "s3://bucket/run", overrides=("seed=1",), working_dir=str(checkout))
    assert submit(task, address, wait=False, log=lines.append, pause=lambda seconds: None) == 0
    return lines


def test_a_stage_is_the_first_word_of_the_one_script(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    head = Head(0)
    lines = send(head, checkout, monkeypatch)
    (job,) = head.accepted
    assert job["entrypoint"] == "python jobs/run.py embed-aligned --out s3://bucket/run --set seed=1"
    assert job["metadata"] == {"out": "s3://bucket/run", "stage": "embed_aligned"}
    assert job["entrypoint"] in lines[0]


def test_a_head_that_has_just_started_is_waited_for(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    head = Head(2)
    lines = send(head, checkout, monkeypatch)
    assert len(head.accepted) == 1
    assert len([line for line in lines if "trying again" in line]) == 1


def test_who_has_taken_the_port_of_the_agent_is_told(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        monkeypatch.setattr(jobs, "AGENT_PORT", taken.getsockname()[1])
        with pytest.raises(ConfigError) as error:
            send(Head(10**6), checkout, monkeypatch)
        assert f"port {jobs.AGENT_PORT} is taken by process {os.getpid()}" in str(error.value)
        with pytest.raises(ConfigError) as error:  # what listens here says nothing of another machine
            send(Head(10**6), checkout, monkeypatch, "http://head.example:8265")
    assert "is taken by" not in str(error.value)
    assert "has not come up" in str(error.value)
    assert "token" not in str(error.value)


def test_another_refusal_is_final(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    head = Head(1, "Request failed with status code 401: Unauthorized")
    with pytest.raises(ConfigError, match=r"401.*RAY_AUTH_TOKEN"):
        send(head, checkout, monkeypatch)
    assert not head.accepted


def test_only_a_checkout_can_be_sent(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no jobs/run\.py"):
        Job("run", "s3://bucket/run", working_dir=str(tmp_path)).entrypoint()
