"""The catalogue stage on a real Ray: every row accounted for, same input same tables, bad input refused."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from lgsid_ray.artifacts import Items
from lgsid_ray.catalog import stage
from lgsid_ray.catalog.stage import catalogue
from lgsid_ray.config import RunConfig
from lgsid_ray.errors import InputError
from lgsid_ray.execution.storage import StageDir

pytestmark = pytest.mark.usefixtures("ray_local")


def _items(count: int) -> list[dict[str, Any]]:
    rng = np.random.default_rng(0)
    centres = np.array([(30.27, -97.74), (29.76, -95.37), (32.78, -96.8), (40.71, -74.0), (34.05, -118.24)])
    return [
        {"item_id": f"i{row}", "name": f"Cafe {row}", "lat": float(lat), "lon": float(lon)}
        for row, (lat, lon) in enumerate(centres[rng.integers(5, size=count)] + rng.normal(0, 0.2, (count, 2)))
    ]


def _log(count: int, items: int) -> list[dict[str, Any]]:
    rng = np.random.default_rng(1)
    users, picks, times = rng.integers(12, size=count), rng.integers(items, size=count), rng.permutation(count)
    return [
        {"user_id": f"u{user}", "item_id": f"i{pick}", "timestamp": 1_700_000_000 + 60 * int(time)}
        for user, pick, time in zip(users, picks, times, strict=True)
    ]


def _write(path: Path, rows: list[dict[str, Any]]) -> dict[str, Any]:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return {"path": str(path)}


def _run(tmp_path: Path, items: Any, log: Any = None, name: str = "out", **settings: Any) -> tuple[dict, StageDir]:
    source: dict[str, Any] = {"kind": "files", "items": _write(tmp_path / "items.jsonl", items)}
    if log is not None:
        source["interactions"] = _write(tmp_path / "log.jsonl", log)
    source |= settings.pop("source", {})
    config = RunConfig.model_validate({"catalogue": {"source": source, **settings}})
    out = StageDir(str(tmp_path / name)).make()
    return catalogue(config, {}, out), out


def _balanced(facts: dict[str, Any], table: str) -> bool:
    parts = sum(facts[f"{table}_{part}"] for part in ("accepted", "left_out", "quarantined"))
    return bool(parts == facts[f"{table}_read"])


def test_every_bad_row_is_quarantined_with_file_row_column_and_reason(tmp_path: Path) -> None:
    good = _items(30)
    bad = [
        {**good[0], "item_id": None},
        {**good[0], "item_id": "n", "name": ""},
        {**good[0], "item_id": "r", "lat": 95.0, "lon": 99.0},
        {**good[0], "item_id": "s", "lat": -97.74, "lon": 30.27},
        {**good[0], "item_id": "z", "lat": 0, "lon": 0},
        {**good[0], "item_id": "m", "lat": float("nan")},
        {**good[0], "item_id": "u", "lat": None, "lon": None},
        dict(good[1]),
        {**good[2], "name": "Another name"},
    ]
    strange = [{"user_id": "u1", "item_id": "nowhere", "timestamp": 1_700_000_000}]
    log = _log(100, 30)
    facts, out = _run(tmp_path, [*good, *bad], [*log, *strange, log[5]])
    assert (facts["items_read"], facts["items_accepted"], facts["items_quarantined"]) == (39, 30, 9)
    assert (facts["interactions_read"], facts["interactions_accepted"]) == (102, 100)
    assert _balanced(facts, "items")
    assert _balanced(facts, "interactions")
    rows = out.read_table("quarantine.parquet").to_pylist()
    found = {(row["table"], row["row"]): (row["column"], row["reason"]) for row in rows}
    expected = ["item_id", "name", "lat", "lat", "lat", "lat", "lat", "item_id", "item_id"]
    assert [found["items", 31 + row][0] for row in range(9)] == expected
    assert found["items", 37] == ("lat", "empty or NaN")
    assert "duplicate" in found["items", 38][1]
    assert "other content" in found["items", 39][1]
    assert found["interactions", 101] == ("item_id", "no such item in the catalogue")
    assert ("interactions", 6) in found or ("interactions", 102) in found
    assert all(Path(row["file"]).is_file() and row["raw"] for row in rows)


def test_same_configuration_gives_identical_files_and_no_leak(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    items, log = _items(200), _log(800, 200)
    _, one = _run(tmp_path, items, log, "one")
    _, two = _run(tmp_path, items, log, "two")
    names = sorted(str(path.relative_to(one.root)) for path in Path(one.root).rglob("*.*"))
    assert any(name.startswith("items") for name in names)
    for name in names:
        assert Path(one.path(name)).read_bytes() == Path(two.path(name)).read_bytes(), name
    monkeypatch.setattr(stage, "BUCKET_ROWS", 100)
    _, three = _run(tmp_path, items, log, "three")
    assert len(three.parts("items")) > len(one.parts("items"))
    splits = [dict(_pairs(out, "items", "item_id", "split")) for out in (one, three)]
    assert splits[0] == splits[1]
    assert set(splits[0].values()) == {"train", "held_city", "held_place", "held_random"}
    for out in (one, three):
        _check_items(out.read_table("items"))
        _check_no_leak(out.read_table("interactions"))


def _pairs(out: StageDir, table: str, key: str, value: str) -> list[tuple[str, str]]:
    rows = out.read_table(table)
    return list(zip(rows.column(key).to_pylist(), rows.column(value).to_pylist(), strict=True))


def _check_items(items: pa.Table) -> None:
    frame = items.to_pandas()
    assert frame["item_index"].tolist() == list(range(len(frame)))
    assert frame["item_id"].is_unique
    place = frame["province"] + "/" + frame["city"] + "/" + frame["district"]
    assert not set(place[frame["split"] == "held_place"]) & set(place[frame["split"] != "held_place"])
    city = frame["province"] + "/" + frame["city"]
    assert not set(city[frame["split"] == "held_city"]) & set(city[frame["split"] != "held_city"])
    assert frame["province_filled"].all()


def _check_no_leak(log: pa.Table) -> None:
    frame = log.to_pandas()
    by_time = {name: group["timestamp"] for name, group in frame.groupby("rank_split")}
    assert by_time["train"].max() < by_time["valid"].min()
    assert by_time["valid"].max() < by_time["test"].min()
    for _, events in frame.groupby("user_id"):
        assert events["timestamp"].is_monotonic_increasing
        assert events["generate_split"].tolist() == ["train"] * (len(events) - 2) + ["valid", "test"]


GENRES = ("Drama", "Comedy", "Western", "Horror", "Noir")


def _films(count: int, **columns: Any) -> list[dict[str, Any]]:
    return [{"item_id": f"i{row}", "name": f"Film {row}", **columns} for row in range(count)]


@pytest.mark.parametrize("columns", [{}, {"lat": None, "lon": ""}])
def test_a_catalogue_without_coordinates_is_accepted_unplaced_and_unlabelled(
    tmp_path: Path, columns: dict[str, Any]
) -> None:
    facts, out = _run(tmp_path, _films(60, **columns), _log(300, 60))
    items = Items(out).read()
    assert (facts["located"], facts["items_accepted"]) == (False, 60)
    for name in ("lat", "lon", "province", "city", "district"):
        assert items.column(name).null_count == 60
    assert Items(out).xyz() is None
    assert facts["held_place_left_out"] == "no item has a province, city and district"
    assert set(facts["item_splits"]) == {"train", "held_random"}
    assert facts["interactions_accepted"] == 300


def test_a_hierarchy_of_the_users_own_stands_in_for_districts(tmp_path: Path) -> None:
    films = [
        {**film, "province": "Film", "city": "Feature", "district": GENRES[row % 6] if row % 6 < 5 else None}
        for row, film in enumerate(_films(120))
    ]
    facts, out = _run(tmp_path, films)
    split = dict(_pairs(out, "items", "item_id", "split"))
    held = {film["district"] for film in films if split[film["item_id"]] == "held_place"}
    assert facts["item_splits"]["held_place"] == 20 * len(held) > 0
    assert None not in held
    assert facts["filled"] == {"province": 0, "city": 0, "district": 0}
    assert "held_place_left_out" not in facts
    facts, out = _run(tmp_path, films, name="few", source={"max_items": 40, "sample_by": "district"})
    assert facts["items_accepted"] == 40
    assert len(set(Items(out).read(["district"]).column("district").to_pylist())) == 2


def test_sampling_by_district_is_refused_where_there_is_none(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"sample_by=district: no item has .*sample_by=item"):
        _run(tmp_path, _films(20), source={"max_items": 10, "sample_by": "district"})


def test_files_with_and_without_coordinates_do_not_mix(tmp_path: Path) -> None:
    folder = tmp_path / "both"
    folder.mkdir()
    _write(folder / "a.jsonl", _films(20))
    _write(folder / "b.jsonl", _items(20))
    source = {"kind": "files", "items": {"path": str(folder)}}
    config = RunConfig.model_validate({"catalogue": {"source": source}})
    with pytest.raises(InputError, match=r"a\.jsonl has no columns lat and lon, but .*b\.jsonl has coordinates"):
        catalogue(config, {}, StageDir(str(tmp_path / "out")).make())


def test_one_item_alone_is_a_catalogue(tmp_path: Path) -> None:
    facts, out = _run(tmp_path, _items(1))
    assert facts["items_accepted"] == 1
    assert out.read_table("items").column("split").to_pylist() != ["held_place"]
    assert len(out.read_table("interactions")) == 0


def test_all_items_at_one_point(tmp_path: Path) -> None:
    facts, _ = _run(tmp_path, [{**item, "lat": 30.27, "lon": -97.74} for item in _items(40)])
    assert facts["items_accepted"] == 40
    assert facts["item_splits"].get("held_place", 0) == 0  # there is no other place to learn from
    assert facts["item_splits"]["train"] > 0


def test_a_log_without_times_has_no_order(tmp_path: Path) -> None:
    log = [{"user_id": row["user_id"], "item_id": row["item_id"]} for row in _log(300, 40)]
    facts, out = _run(tmp_path, _items(40), log)
    rows = out.read_table("interactions")
    assert facts["timed"] is False
    assert rows.column("timestamp").null_count == rows.column("generate_split").null_count == len(rows)
    assert set(rows.column("rank_split").to_pylist()) == {"train", "valid", "test"}


def test_a_log_that_matches_no_item_is_refused(tmp_path: Path) -> None:
    log = [{**row, "item_id": f"x{row['item_id']}"} for row in _log(50, 10)]
    with pytest.raises(InputError, match=r"matches no item.*item ids of both tables"):
        _run(tmp_path, _items(10), log)


def test_a_log_of_which_too_much_is_lost_is_refused(tmp_path: Path) -> None:
    log = [{**row, "item_id": f"x{row['item_id']}"} if at % 5 else row for at, row in enumerate(_log(50, 10))]
    with pytest.raises(
        InputError, match=r"40 of 50 rows of the log are unfit.*max_log_quarantine=0.5.*40 × item_id: no"
    ):
        _run(tmp_path, _items(10), log)
    facts, _ = _run(tmp_path, _items(10), log, name="lenient", max_log_quarantine=0.8)
    assert facts["interactions_accepted"] == 10


@pytest.mark.parametrize("doubles", ["items", "log"])
def test_ids_that_became_doubles_in_one_table_are_told_before_any_row_is_called_a_stranger(
    tmp_path: Path, doubles: str
) -> None:
    ending = {table: ".0" if table == doubles else "" for table in ("items", "log")}
    items = [{**item, "item_id": f"{at}{ending['items']}"} for at, item in enumerate(_items(10))]
    log = [{**row, "item_id": f"{row['item_id'][1:]}{ending['log']}"} for row in _log(50, 10)]
    with pytest.raises(InputError, match=rf"item ids of the {doubles} are doubles written as text, such as 12\.0"):
        _run(tmp_path, items, log)


def test_what_optional_cells_hold_never_costs_the_row(tmp_path: Path) -> None:
    items = [{**item, "price": price, "brand": ["x"] if at else "y"} for at, (item, price) in
             enumerate(zip(_items(5), ("$5.00", "\\N", "1,200.00", 7, None), strict=True))]  # fmt: skip
    facts, out = _run(tmp_path, items)
    assert (facts["items_read"], facts["items_accepted"], facts["items_quarantined"]) == (5, 5, 0)
    assert sorted(out.read_table("items").column("price").drop_null().to_pylist()) == [7.0]
    unread = {note.partition(":")[0]: count for note, count in facts["notes"].items()}
    assert unread == {"price": 2, "brand": 4}


def test_too_many_bad_rows_are_refused(tmp_path: Path) -> None:
    items = [{**item, "name": None} if row % 3 else item for row, item in enumerate(_items(30))]
    with pytest.raises(InputError, match=r"20 of 30 item rows are unfit.*20 × name: empty"):
        _run(tmp_path, items)
    assert not (tmp_path / "out/items").exists()
    with pytest.raises(InputError, match="no item is left of 3 rows read"):
        _run(tmp_path, [{**item, "name": None} for item in _items(3)])


@pytest.mark.parametrize("sample_by", ["item", "district"])
def test_what_a_sample_leaves_out_is_counted(tmp_path: Path, sample_by: str) -> None:
    source = {"max_items": 60, "sample_by": sample_by, "min_interactions": 2}
    facts, out = _run(tmp_path, _items(200), _log(800, 200), source=source)
    accepted = facts["items_accepted"]
    assert accepted == 60 if sample_by == "item" else 0 < accepted <= 120
    assert facts["items_left_out"] == 200 - accepted
    assert _balanced(facts, "interactions")
    assert facts["interactions_left_out"] > 0
    assert set(out.read_table("interactions").column("item_id").to_pylist()) <= set(
        out.read_table("items").column("item_id").to_pylist()
    )
