"""A run directory in an object store: a real S3 server on this machine, real workers writing to it."""

import os
import subprocess
import sys
from pathlib import Path

import fsspec
import pytest

from lgsid_ray.config import load
from lgsid_ray.execution.run import Run
from lgsid_ray.pipeline import standing

pytestmark = pytest.mark.ray

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


def lgsid(out: str, stage: str = "tokenise", overrides: list[str] = OVERRIDES) -> str:
    command = [sys.executable, "-m", "lgsid_ray.cli", stage, "--out", out, "--debug"]
    for override in overrides:
        command += ["--set", override]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ, timeout=300, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    assert "core_worker.cc" not in done.stderr  # what Ray itself says in red of its own actors
    return done.stdout


def test_run_in_an_object_store_equals_a_local_one(bucket: str, tmp_path: object) -> None:
    lgsid(f"{bucket}/run")
    assert lgsid(f"{bucket}/run").count("up to date") == 3
    lgsid(f"{tmp_path}/run")
    tables = []
    for uri in (f"{bucket}/run", f"{tmp_path}/run"):
        run = Run(uri, load(None, OVERRIDES))
        standing(run, "tokenise")
        tables.append(run.directory("tokenise/hgit").read_table("sids.parquet"))
    assert tables[0].num_rows == 240
    assert tables[0].equals(tables[1])


def test_rejects_of_every_step_are_counted_in_an_object_store(bucket: str, tmp_path: Path) -> None:
    """Several processes add to one folder: none may go by a listing from before the others wrote."""
    (tmp_path / "items.csv").write_text(
        "item_id,name,lat,lon\n"
        + "".join(f"i{k},n{k},{30 + k / 10},{-97 - k / 10}\n" for k in range(40))
        + "bad,,1,1\n"
    )
    (tmp_path / "log.csv").write_text(
        "user_id,item_id,timestamp\n"
        + "".join(f"u{k % 5},i{k},{1_700_000_000 + k}\n" for k in range(40))
        + "u1,nowhere,1700000000\nu0,i0,1700000000\n"
    )
    with fsspec.open_files([f"{bucket}/in/items.csv", f"{bucket}/in/log.csv"], "wb") as files:
        for file, name in zip(files, ("items.csv", "log.csv"), strict=True):
            file.write((tmp_path / name).read_bytes())
    overrides = [
        "catalogue.source.kind=files",
        f"catalogue.source.items.path={bucket}/in/items.csv",
        f"catalogue.source.interactions.path={bucket}/in/log.csv",
    ]
    lgsid(f"{bucket}/bad", "catalogue", overrides)
    run = Run(f"{bucket}/bad", load(None, overrides))
    standing(run, "catalogue")
    rows = run.directory("catalogue").read_table("quarantine.parquet").to_pylist()
    assert sorted((row["table"], row["row"]) for row in rows) == [
        ("interactions", 41),
        ("interactions", 42),
        ("items", 41),
    ]
    assert not run.directory("catalogue").exists("work")
