"""Jobs on a real cluster: `ray start --head` with a token, `lgsid submit`, logs and exit codes."""

import os
import secrets
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

pytestmark = pytest.mark.ray

PROJECT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent


def free_ports(count):
    """Ports that are free now, all different."""
    holders = [socket.socket() for _ in range(count)]
    for holder in holders:
        holder.bind(("127.0.0.1", 0))
    ports = [holder.getsockname()[1] for holder in holders]
    for holder in holders:
        holder.close()
    return ports


@pytest.fixture(scope="module")
def head():
    """A head node of its own: (dashboard address, environment that holds its token)."""
    with tempfile.TemporaryDirectory(prefix="lgs-", ignore_cleanup_errors=True) as folder:
        token = Path(folder) / "token"
        token.write_text(secrets.token_hex(16))
        inherited = {k: v for k, v in os.environ.items() if not k.startswith("RAY_")}
        environment = {
            **inherited,
            "PATH": f"{BIN}:{os.environ['PATH']}",
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN_PATH": str(token),
            "RAY_TMPDIR": folder,
            "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S": "0",  # a finished job leaves its supervisor behind for a while
        }
        gcs, dashboard, client, agent = free_ports(4)
        options = {
            "node-ip-address": "127.0.0.1",
            "port": gcs,
            "dashboard-host": "127.0.0.1",
            "dashboard-port": dashboard,
            "ray-client-server-port": client,
            "dashboard-agent-listen-port": agent,
            "temp-dir": folder,
            "num-cpus": 2,
            "object-store-memory": 200 * 2**20,
        }
        arguments = [f"--{name}={value}" for name, value in options.items()]
        with open(Path(folder) / "head.log", "wb") as log:
            process = subprocess.Popen(
                [BIN / "ray", "start", "--head", "--block", "--disable-usage-stats", *arguments],
                env=environment,
                stdout=log,
                stderr=log,
                cwd=folder,
            )
        address = f"http://127.0.0.1:{dashboard}"
        try:
            wait_for(address, process, Path(folder) / "head.log")
            yield address, environment
        finally:
            process.terminate()  # --block: the head takes its own processes along, and only those
            process.wait(60)


def wait_for(address, process, log):
    for _ in range(120):
        assert process.poll() is None, log.read_text()
        try:
            urllib.request.urlopen(f"{address}/api/version", timeout=2).close()
            return
        except urllib.error.HTTPError:
            return  # it answers, and asks for the token
        except OSError:
            time.sleep(0.5)
    raise AssertionError(f"the dashboard does not answer:\n{log.read_text()}")


def lgsid(head, *arguments, env=None, cwd=PROJECT):
    address, environment = head
    command = [str(BIN / "lgsid"), "submit", *arguments, "--address", address]
    return subprocess.run(
        command, env={**environment, **(env or {})}, cwd=cwd, capture_output=True, text=True, timeout=300, check=False
    )


def test_dashboard_refuses_a_stranger(head):
    with pytest.raises(urllib.error.HTTPError) as error:
        urllib.request.urlopen(f"{head[0]}/api/jobs/", timeout=10)
    assert error.value.code in (401, 403)


def test_job_runs_stages_on_the_cluster(head, tmp_path):
    world = ["catalogue.source.items=200", "catalogue.source.users=0", "sampling.negatives=4"]
    sets = [part for override in world for part in ("--set", override)]
    done = lgsid(head, "sample", "--out", str(tmp_path / "run"), *sets)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "sample: done" in done.stdout
    assert "succeeded" in done.stdout
    (manifest,) = (tmp_path / "run" / "sample").glob("*/manifest.json")
    assert manifest.stat().st_size > 0
    again = lgsid(head, "sample", "--out", str(tmp_path / "run"), *sets)
    assert again.returncode == 0
    assert "up to date" in again.stdout


def test_exit_code_of_the_job_comes_back(head, tmp_path):
    jobs = tmp_path / "jobs"
    jobs.mkdir()
    (jobs / "run.py").write_text("import os, sys\nprint('seen', os.environ['LGSID_CITY'])\nsys.exit(3)\n")
    (tmp_path / "c.yaml").write_text("catalogue:\n  source:\n    countries: ['${LGSID_CITY}']\n")
    arguments = ["--out", str(tmp_path / "run"), "--config", "c.yaml"]
    done = lgsid(head, *arguments, env={"LGSID_CITY": "SG"}, cwd=tmp_path)
    assert done.returncode == 3, done.stdout + done.stderr
    assert "seen SG" in done.stdout


def test_what_cannot_work_is_refused_before_it_is_sent(head, tmp_path):
    relative = lgsid(head, "--out", "runs/x")
    assert relative.returncode == 2
    assert "absolute path" in relative.stderr
    outside = tmp_path / "c.yaml"
    outside.write_text("seed: 1\n")
    assert "only files under" in lgsid(head, "--out", "/x", "--config", str(outside)).stderr
    stranger = lgsid(head, "--out", "/x", env={"RAY_AUTH_TOKEN_PATH": "", "RAY_AUTH_TOKEN": "wrong"})
    assert stranger.returncode == 2
    assert "cannot submit" in stranger.stderr
