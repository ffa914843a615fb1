"""Bad input as a user meets it on the command line: exit code, a message that teaches, nothing taken for whole."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from click.testing import Result
from typer.testing import CliRunner

from lgsid_ray.cli.app import app

pytestmark = pytest.mark.usefixtures("ray_local")

PLAIN = (
    "encoder.kind=random_projection",
    "tokenizer.embeddings=origin",
    "rank.enabled=false",
    "generate.enabled=false",
)
PREFERRED = ("tokenizer.embeddings=aligned", "align.objective=gdpo")


def lgsid(*words: str) -> Result:
    return CliRunner(env={"COLUMNS": "200", "TERM": "dumb"}).invoke(app, list(words))


def run(folder: Path, command: str, *overrides: str) -> Result:
    """`lgsid COMMAND` with the configuration in `folder`, in the run directory below it."""
    settings = [word for pair in overrides for word in ("--set", pair)]
    return lgsid(command, "--config", str(folder / "my.yaml"), "--out", str(folder / "run"), *settings)


def finished(folder: Path) -> set[str]:
    """The stages that are done, cells under the name of their family."""
    return {path.relative_to(folder / "run").parts[0] for path in folder.glob("run/**/manifest.json")}


def items(count: int) -> list[dict[str, Any]]:
    rng = np.random.default_rng(0)
    places = np.array([(30.27, -97.74), (40.71, -74.0)])[rng.integers(2, size=count)] + rng.normal(0, 0.2, (count, 2))
    return [
        {"item_id": f"i{row}", "name": f"Cafe {row}", "lat": float(lat), "lon": float(lon)}
        for row, (lat, lon) in enumerate(places)
    ]


def log(**change: Any) -> list[dict[str, Any]]:
    rows = [
        {"user_id": f"u{row % 5}", "item_id": f"i{row % 20}", "timestamp": 1_700_000_000 + row} for row in range(40)
    ]
    return [{**row, **{key: value(row[key]) for key, value in change.items()}} for row in rows]


def csv(rows: list[dict[str, Any]], mark: str = ",") -> str:
    return (
        "\n".join(mark.join(str(value) for value in row) for row in [list(rows[0]), *(r.values() for r in rows)]) + "\n"
    )


def parquet(rows: list[dict[str, Any]]) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_pylist(rows), sink)
    return bytes(sink.getvalue().to_pybytes())


def place(
    folder: Path, content: str | bytes | None, events: str | None = None, name: str = "items.csv", **source: Any
) -> None:
    """Write the input files and the configuration that names them."""
    for file, text in ((name, content), ("log.csv", events)):
        if text is not None:
            (folder / file).write_bytes(text.encode() if isinstance(text, str) else text)
    tree: dict[str, Any] = {"kind": "files", "items": {"path": str(folder / name), **source}}
    if events is not None:
        tree["interactions"] = {"path": str(folder / "log.csv")}
    (folder / "my.yaml").write_text(json.dumps({"catalogue": {"source": tree}}))


GOOD = csv(items(20))
SWAPPED = [{**row, "lat": row["lon"], "lon": row["lat"]} for row in items(20)]


@pytest.mark.parametrize(
    ("given", "code", "told"),
    [
        pytest.param({"content": None}, 3, r"items\.csv: no such file", id="missing file"),
        pytest.param({"content": ""}, 3, r"items\.csv: the file is empty", id="empty file"),
        pytest.param({"content": "item_id,name,lat,lon\n"}, 3, r"items\.csv: there is no row", id="header only"),
        pytest.param(
            {"content": parquet(items(200))[:-100], "name": "items.parquet"},
            3,
            r"items\.parquet: after row 0: truncated, damaged, or not parquet",
            id="truncated Parquet",
        ),
        pytest.param({"content": csv(items(20), ";")}, 3, r"separated by ';': set `delimiter`", id="wrong delimiter"),
        pytest.param(
            {"content": (GOOD + "x,Löwe,1,2\n").encode("latin-1")},
            3,
            r"items\.csv: line 22 is not utf-8.*set `encoding`",
            id="not UTF-8",
        ),
        pytest.param(
            {"content": GOOD, "columns": {"brand": "chain"}},
            3,
            r"items\.csv: column 'chain' \(our brand\) is missing; the file has \['item_id', 'name', 'lat', 'lon'\]",
            id="missing mapped column",
        ),
        pytest.param(
            {"content": GOOD, "columns": {"itemid": "item_id"}},
            2,
            r"items\.columns: itemid is no column of ours; they are item_id, name",
            id="mapped name that we do not know",
        ),
        pytest.param(
            {"content": csv([row for row in SWAPPED if row["lat"] < -90])},
            3,
            r"no item is left of (\d+) rows read: \1 × lat: .*look swapped: exchange them in `columns`",
            id="swapped out of range",
        ),
        pytest.param(
            {"content": csv([row for row in SWAPPED if row["lat"] > -90])},
            3,
            r"look swapped: of (\d+) items looked at, \1 lie far from any town.*exchange them in `columns`",
            id="swapped within range",
        ),
        pytest.param(
            {"content": GOOD, "events": csv(log(item_id=lambda key: f"x{key}"))},
            3,
            r"matches no item: of 40 rows none is left.*The log has 'xi0', for example, the items 'i\d+'",
            id="log of other items",
        ),
        pytest.param(
            {"content": GOOD, "events": csv(log(timestamp=lambda _: "noon"))},
            3,
            r"no row of the log is fit of 40 read: 40 × timestamp: not a time.*ISO 8601.*quarantine\.parquet",
            id="log of unreadable times",
        ),
        pytest.param(
            {"content": GOOD, "events": "user_id,item_id\n"}, 3, r"log\.csv: there is no row", id="log without rows"
        ),
        pytest.param(
            {"content": GOOD, "events": "who,item_id\n1,i1\n"}, 3, r"log\.csv: column 'user_id'", id="log column"
        ),
    ],
)
def test_what_cannot_be_used_is_refused(tmp_path: Path, given: dict[str, Any], code: int, told: str) -> None:
    place(tmp_path, **given)
    result = run(tmp_path, "catalogue")
    assert result.exit_code == code
    message = result.stderr.removeprefix("error: ")
    assert message != result.stderr
    assert len(message.splitlines()) == (2 if code == 2 else 1)
    assert re.search(told, message)
    assert "Traceback" not in result.output
    assert not finished(tmp_path)
    again = run(tmp_path, "sample")  # a later stage does not take the rest for whole
    assert again.exit_code == code
    assert not finished(tmp_path)


def test_a_process_of_its_own_ends_with_the_code_and_the_message_alone(tmp_path: Path) -> None:
    place(tmp_path, None)
    words = ("catalogue", "--config", str(tmp_path / "my.yaml"), "--out", str(tmp_path / "run"))
    command = [sys.executable, "-m", "lgsid_ray.cli", *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 3
    assert done.stderr == f"error: {tmp_path}/items.csv: no such file\n"
    assert "Traceback" not in done.stdout


def test_unfit_rows_are_counted_by_column_and_reason(tmp_path: Path) -> None:
    good = items(20)
    bad = [
        {**good[0], "item_id": "n", "name": ""},
        {**good[0], "item_id": "f", "lat": 95.0, "lon": 99.0},
        {**good[0], "item_id": "m", "lat": "NaN"},
        {**good[0], "item_id": "k", "lat": "inf"},
        {**good[0], "item_id": "z", "lat": 0, "lon": 0},
        {**good[1], "name": "Another"},
    ]
    place(tmp_path, csv([*good, *bad]))
    result = run(tmp_path, "catalogue")
    assert result.exit_code == 0
    for told in (
        "name: empty: 1",
        "lat: out of range: not within -90..90: 1",
        "lat: empty or NaN: 1",
        "lat: not a finite number: 1",
        "lat: (0, 0): a missing position: 1",
        "item_id: another row has this item_id with other content; the first by file and row is kept: 1",
    ):
        assert told in result.stdout
    assert finished(tmp_path) == {"catalogue"}


def test_item_ids_of_mixed_types_meet(tmp_path: Path) -> None:
    rows = [{**row, "item_id": number if number % 2 else str(number)} for number, row in enumerate(items(20))]
    text = "".join(json.dumps(row) + "\n" for row in rows)
    place(tmp_path, text, csv(log(item_id=lambda key: key[1:])), name="items.jsonl")
    assert run(tmp_path, "catalogue").exit_code == 0
    (counts,) = (tmp_path / "run").rglob("counts.json")
    facts = json.loads(counts.read_text())
    assert (facts["items_accepted"], facts["interactions_accepted"]) == (20, 40)


@pytest.mark.parametrize(
    ("times", "note"),
    [
        (lambda at: at * 1000, r"times read from milliseconds: 40"),
        (lambda _: "2024-01-01", r"times read from (text|dates): 40"),
    ],
)
def test_times_in_another_form_are_read_and_noted(tmp_path: Path, times: Any, note: str) -> None:
    place(tmp_path, GOOD, csv(log(timestamp=times)))
    result = run(tmp_path, "catalogue")
    assert result.exit_code == 0
    assert re.search(note, result.stdout)


def test_a_log_without_times_leaves_out_what_needs_them(tmp_path: Path) -> None:
    place(tmp_path, GOOD, csv([{"user_id": row["user_id"], "item_id": row["item_id"]} for row in log()]))
    small = ("tokenizer.sizes=[4, 2]", "generate.enabled=true")
    result = run(tmp_path, "run", *PLAIN, *small)
    assert result.exit_code == 0, result.output
    assert "generate was left out: " in result.stdout
    assert "time" in result.stdout.partition("generate was left out: ")[2].splitlines()[0]


def test_one_item_alone_goes_as_far_as_one_item_can(tmp_path: Path) -> None:
    place(tmp_path, csv(items(1)), csv([{**row, "item_id": "i0"} for row in log()]))
    aligned = run(tmp_path, "run", *PREFERRED, "tokenizer.sizes=[1, 1]")
    assert aligned.exit_code == 3
    assert "lie in 1 known (province, city, district)" in aligned.stderr
    assert "align.objective=distil" in aligned.stderr
    clusters = run(tmp_path, "run", *PLAIN, "tokenizer.sizes=[64, 32, 32]")
    assert clusters.exit_code == 2
    assert finished(tmp_path) == {"catalogue"}  # told before the expensive stages, not after them
    assert (
        "tokenizer.sizes [64, 32, 32]: 64 clusters for 1 training items; choose sizes of at most 1" in clusters.stderr
    )
    ranked = run(tmp_path, "run", *PLAIN, "tokenizer.sizes=[1, 1]", "rank.enabled=true")
    assert ranked.exit_code == 3
    assert "set rank.enabled=false" in ranked.stderr
    assert "rank" not in finished(tmp_path)
    whole = run(tmp_path, "run", *PLAIN)
    assert whole.exit_code == 0, whole.output
    assert "tokenizer.sizes: auto is [1, 1, 1] for 1 items" in whole.stdout
    assert {"tokenise", "evaluate", "report"} <= finished(tmp_path)
    for output in (aligned, clusters, ranked):
        assert "Traceback" not in output.output


def test_all_items_at_one_point_are_tokenised_but_not_aligned(tmp_path: Path) -> None:
    place(tmp_path, csv([{**row, "lat": 30.27, "lon": -97.74} for row in items(30)]))
    aligned = run(tmp_path, "run", *PREFERRED, "tokenizer.sizes=[4, 4]")
    assert aligned.exit_code == 3
    assert re.search(r"the training items lie in 1 known \(province, city, district\).*=distil", aligned.stderr)
    assert finished(tmp_path) == {"catalogue"}  # told before anything was computed from it
    whole = run(tmp_path, "run", *PLAIN, "tokenizer.sizes=[4, 4]")
    assert whole.exit_code == 0, whole.output
    assert "level 1 gives all items the same code" in whole.stdout
    (sids,) = (tmp_path / "run").rglob("sids.parquet")
    assert pc.count_distinct(pq.read_table(sids).column("sid")).as_py() == 30


@pytest.fixture
def catalogued(tmp_path: Path) -> Path:
    place(tmp_path, GOOD)
    assert run(tmp_path, "catalogue").exit_code == 0
    return tmp_path


@pytest.mark.parametrize("content", [b"", b"{}", b'{"stage": "catal', b"[1]", b"\xff"])
def test_a_corrupt_manifest_is_named_and_deleting_its_folder_helps(catalogued: Path, content: bytes) -> None:
    (manifest,) = (catalogued / "run").rglob("manifest.json")
    manifest.write_bytes(content)
    for words in ("sample", "catalogue"):
        result = run(catalogued, words)
        assert result.exit_code == 5
        assert re.search(rf"{manifest} is corrupt .*; delete {manifest.parent} and run again", result.stderr)
        assert "Traceback" not in result.output
    assert lgsid("status", "--out", str(catalogued / "run")).exit_code == 5
    subprocess.run(["rm", "-r", str(manifest.parent)], check=True)
    assert run(catalogued, "catalogue").exit_code == 0


@pytest.mark.parametrize("harm", ["truncate", "delete"])
def test_a_corrupt_part_of_an_earlier_stage_is_named(catalogued: Path, harm: str) -> None:
    (part,) = (catalogued / "run").rglob("items/part-00000.parquet")
    part.unlink() if harm == "delete" else part.write_bytes(part.read_bytes()[:100])
    for command in ("sample", "embed"):
        result = run(catalogued, command, *PLAIN)
        assert result.exit_code == 5, result.output
        assert str(part if harm == "truncate" else part.parent) in result.stderr
        assert f"delete {part.parents[1]} and run again" in result.stderr
        assert "Traceback" not in result.output
    assert finished(catalogued) == {"catalogue"}


def test_a_model_that_is_not_there_is_told_from_within_an_actor(catalogued: Path) -> None:
    (catalogued / "model").mkdir()
    result = run(catalogued, "embed", f"encoder.model={catalogued}/model")
    assert result.exit_code == 2
    assert f"encoder.model {catalogued}/model: cannot be loaded" in result.stderr
    assert "Traceback" not in result.output


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(disk)]
    try:
        done = subprocess.run(mount, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        pytest.skip("no mount command")
    if done.returncode:
        pytest.skip(f"a file system of limited size cannot be mounted: {done.stderr.strip()}")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


def test_a_full_disk_exits_5_and_the_same_command_finishes_once_there_is_room(tiny_disk: Path) -> None:
    def catalogue() -> Result:
        world = ("catalogue.source.items=20000", "catalogue.source.users=0", "catalogue.source.towns=20")
        settings = [word for pair in world for word in ("--set", pair)]
        return lgsid("catalogue", "--out", str(tiny_disk / "run"), *settings)

    full = catalogue()
    assert full.exit_code == 5, full.output
    assert "no space left on the disk" in full.stderr
    assert "give the same command again" in full.stderr
    assert "Traceback" not in full.output
    assert not list(tiny_disk.rglob("manifest.json"))
    subprocess.run(["mount", "-o", "remount,size=64m", str(tiny_disk)], check=True)
    roomy = catalogue()
    assert roomy.exit_code == 0, roomy.output
    assert "catalogue: continues" in roomy.stdout
    assert len(list(tiny_disk.rglob("manifest.json"))) == 1
    assert not list(tiny_disk.rglob("*.part"))
