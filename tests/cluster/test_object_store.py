"""A run directory in an object store: a real S3 server on this machine, real workers writing to it."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from lgsid_ray.config import load
from lgsid_ray.pipeline import needed
from lgsid_ray.run import Run

OVERRIDES = [
    "catalogue.source.items=240",
    "catalogue.source.users=20",
    "catalogue.source.events_per_user=5",
    "catalogue.source.towns=8",
    "encoder.kind=random_projection",
    "encoder.dimension=16",
    "tokenizer.embeddings=origin",
    "tokenizer.sizes=[6, 4, 4]",
    "evaluate.content=false",
]
ENVIRONMENT = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_DEFAULT_REGION": "us-east-1"}


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = subprocess.Popen(
        [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    for name, value in {**ENVIRONMENT, "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}"}.items():
        monkeypatch.setenv(name, value)
    deadline = time.monotonic() + 60
    while True:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                break
        assert server.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.1)
    import fsspec

    fsspec.filesystem("s3").mkdir("lgsid-test")
    yield "s3://lgsid-test"
    server.terminate()
    server.wait()


def lgsid(out: str) -> str:
    command = [sys.executable, "-m", "lgsid_ray.cli", "tokenise", "--out", out, "--debug"]
    for override in OVERRIDES:
        command += ["--set", override]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ, timeout=300, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return done.stdout


def test_run_in_an_object_store_equals_a_local_one(bucket: str, tmp_path: object) -> None:
    lgsid(f"{bucket}/run")
    assert lgsid(f"{bucket}/run").count("up to date") == 3
    lgsid(f"{tmp_path}/run")
    tables = []
    for uri in (f"{bucket}/run", f"{tmp_path}/run"):
        run = Run(uri, load(None, OVERRIDES))
        for stage in needed(run.config, "tokenise"):
            run.fingerprint(stage)
        tables.append(run.directory("tokenise").read_table("sids.parquet"))
    assert tables[0].num_rows == 240
    assert tables[0].equals(tables[1])
