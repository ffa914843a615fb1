"""What is told of files without a run: columns, rows, keys that match, places, refusals, and what would mend them."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from lgsid_ray.catalog.check import Report, check_sources
from lgsid_ray.cli.app import app
from lgsid_ray.cli.check import HIGH, WIDE, dots
from lgsid_ray.config import load
from lgsid_ray.errors import ConfigError

ITEMS = """item_id,name,lat,lon,price,chain
a,Cafe,40.71,-74.00,5,x
b,Bar,40.72,-74.01,$7.00,y
b,Bar again,40.72,-74.01,,y
c,,34.05,-118.24,9,
d,Gym,34.06,-118.25,9,x
e,Spa,,,3,x
"""
LOG = "user_id,item_id,timestamp\nu,a,2024-01-02\nu,z,2024-01-03\nv,d,1700000000\nv,c,2024-01-05\n"


def _checked(tmp_path: Path, items: str = ITEMS, log: str | None = LOG, *overrides: str) -> Report:
    (tmp_path / "items.csv").write_text(items)
    tree = f"items: {{path: {tmp_path}/items.csv}}"
    if log is not None:
        (tmp_path / "log.csv").write_text(log)
        tree += f", interactions: {{path: {tmp_path}/log.csv}}"
    return check_sources(load(None, [f"catalogue.source={{{tree}}}", *overrides]))


def test_every_column_and_every_row_is_accounted_for(tmp_path: Path) -> None:
    report = _checked(tmp_path)
    items, log = report.tables["items"], report.tables["interactions"]
    assert (items.read, items.accepted, dict(items.quarantined)) == (6, 5, {"name: empty": 1})
    assert "items.csv row 4: {'item_id': 'c'" in items.examples["name: empty"][0]
    assert list(items.unused) == ["chain"]
    price = items.columns["price"]
    assert (price.low, price.high, price.empty, price.distinct) == (3, 9, 1, "3")
    assert price.unreadable == {"not a finite number": 1}
    assert price.examples["not a finite number"] == ["$7.00 (row 2)"]
    assert items.columns["item_id"].distinct == "5"
    assert log.columns["timestamp"].how == {"dates": 3, "seconds": 1}
    assert log.accepted == log.read == 4
    # c is in the file, but not fit to enter.
    assert (report.matched, report.strangers) == (2, ["z", "c"])
    assert (report.repeated, report.placed, report.unplaced, report.filled) == (1, 4, 1, 4)
    assert len(report.labels[0]) == 2
    assert report.refusals == []


def test_a_run_refused_is_told_with_what_would_mend_it(tmp_path: Path) -> None:
    days = "".join(f"u,a,{day:02}/04/2012\n" for day in range(1, 29))
    report = _checked(tmp_path, ITEMS, "user_id,item_id,timestamp\n" + days)
    assert report.refusals == ["interactions: 28 of 28 rows are unfit; catalogue.max_log_quarantine allows 0.5"]
    assert list(report.advice.values()) == ["time_format: '%d/%m/%Y'"]
    ambiguous = _checked(tmp_path, ITEMS, "user_id,item_id,timestamp\nu,a,03/04/2012\n")
    assert {yaml: what.rpartition("as ")[2] for what, yaml in ambiguous.advice.items()} == {
        "time_format: '%d/%m/%Y'": "2012-04-03",
        "time_format: '%m/%d/%Y'": "2012-03-04",
    }


@pytest.mark.parametrize(
    ("items", "refusal", "advice"),
    [
        (
            "item_id,name,lat,lon\na,A,-118.24,34.05\nb,B,-118.25,34.06\n",
            "2 of 2 rows",
            "columns: {lat: lon, lon: lat}",
        ),
        ("item_id,name,lat,lon\na,A,-74.00,40.71\nb,B,-73.99,40.72\n", "look swapped", "columns: {lat: lon, lon: lat}"),
        ('item_id,name,lat,lon\na,A,"40,71","-74,00"\nb,B,"40,72","-74,01"\n', "2 of 2 rows", "decimal: ','"),
        ("id,name,lat,lon\na,A,1,2\n", "column 'item_id' is missing", None),
        ("item_id,name,lat,lon\n", "no row of data", None),
    ],
)
def test_what_is_wrong_with_items_is_named(tmp_path: Path, items: str, refusal: str, advice: str | None) -> None:
    report = _checked(tmp_path, items, None)
    assert any(refusal in told for told in report.refusals)
    assert (advice in report.advice.values()) == (advice is not None)


def test_one_district_for_all_stops_a_run_by_preferences_alone(tmp_path: Path) -> None:
    items = "item_id,name,lat,lon\na,A,40.71,-74.0\nb,B,40.71,-74.0\n"
    assert _checked(tmp_path, items, None).refusals == []
    preferring = ("tokenizer.embeddings=aligned", "align.objective=gdpo")
    (told,) = _checked(tmp_path, items, None, *preferring).refusals
    assert "all items lie in one district" in told


def test_ids_of_another_kind_in_the_log_are_told(tmp_path: Path) -> None:
    report = _checked(tmp_path, "item_id,name\n1,A\n2,B\n", "user_id,item_id\nu,1.0\nu,2.0\n")
    assert any("item ids of the log are doubles" in told for told in report.refusals)


def test_many_values_are_not_counted_to_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lgsid_ray.catalog.check.DISTINCT", 3)
    assert _checked(tmp_path).tables["items"].columns["item_id"].distinct == "> 3"


def test_the_world_has_no_files() -> None:
    with pytest.raises(ConfigError, match="no files to check"):
        check_sources(load(None, []))


def _lit(picture: str) -> list[tuple[int, int]]:
    return [(y, x) for y, line in enumerate(picture.split("\n")) for x, mark in enumerate(line) if mark != "\u2800"]


def test_the_map_has_north_above_and_east_to_the_right() -> None:
    corners: Any = np.array([[50.0, 10.0], [40.0, 30.0]])
    picture = dots(corners)
    assert [len(line) for line in picture.split("\n")] == [WIDE] * HIGH
    assert _lit(picture) == [(0, 0), (HIGH - 1, WIDE - 1)]
    assert _lit(dots(np.array([[1.0, 2.0]]))) == [(HIGH - 1, 0)]


@pytest.mark.parametrize(("items", "code"), [(ITEMS, 0), ("item_id\na\n", 3)])
def test_the_command_ends_as_a_run_would(tmp_path: Path, items: str, code: int) -> None:
    (tmp_path / "items.csv").write_text(items)
    source = f"catalogue.source={{items: {{path: {tmp_path}/items.csv}}}}"
    result = CliRunner(env={"COLUMNS": "200", "TERM": "dumb"}).invoke(app, ["check", "--set", source])
    assert result.exit_code == code, result.output
    assert ("a run would accept this" in result.stdout) == (code == 0)
    assert ("error: " in result.stderr) == (code == 3)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["items.csv"]
