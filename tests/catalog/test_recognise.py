"""Heads of files as their makers write them, and the configuration that comes out: accepted, and nothing silent."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from typer.testing import CliRunner

from lgsid_ray.catalog.recognise import configuration, recognise
from lgsid_ray.catalog.scan import scan, units
from lgsid_ray.catalog.sniff import sniff
from lgsid_ray.cli.app import app
from lgsid_ray.config import load
from lgsid_ray.errors import InputError

GEONAMES = "\t".join(
    [
        "5128581",
        'New "York',
        "New York",
        "",
        "40.71427",
        "-74.00597",
        "P",
        "PPL",
        "US",
        "",
        "NY",
        "",
        "",
        "",
        "8804190",
        "10",
        "57",
        "America/New_York",
        "2023-01-01",
    ]
)
YANG = "470\t49bbd6c0f964a520f4531fe3\t4bf58dd8d48988d127951735\tArts Store\t40.719810\t-74.002581\t-240\tTue Apr 03 18:00:09 +0000 2012"  # noqa: E501
OVERTURE = {
    "id": "08f2a1",
    "names": {"primary": "Blue Door", "common": None},
    "categories": {"primary": "cafe", "alternate": ["bakery"]},
    "bbox": {"xmin": -74.0, "xmax": -74.0, "ymin": 40.7, "ymax": 40.7},
    "addresses": [{"locality": "New York", "region": "NY"}],
    "brand": None,
}
YELP = {
    "business_id": "b1",
    "name": "Pho",
    "city": "Tampa",
    "state": "FL",
    "latitude": 27.9,
    "longitude": -82.4,
    "stars": 4,
    "categories": "Vietnamese, Food",
}
REVIEW = {
    "review_id": "r",
    "user_id": "u",
    "business_id": "b1",
    "stars": 5.0,
    "date": "2018-07-07 22:09:11",
    "text": "a\nb",
}
GOOGLE = {
    "name": "Cut",
    "gmap_id": "0x1",
    "latitude": 34.0,
    "longitude": -118.2,
    "category": ["Barber", "Salon"],
    "price": "$$",
}
GOOGLE_REVIEW = {"user_id": "1", "name": "X", "time": 1609909927056, "rating": 5, "gmap_id": "0x1"}
OVERPASS = {
    "version": 0.6,
    "elements": [{"type": "node", "id": 1, "lat": 51.5, "lon": -0.1, "tags": {"name": "Pub", "amenity": "pub"}}],
}
GEOJSON = {
    "type": "FeatureCollection",
    "features": [
        {
            "type": "Feature",
            "geometry": {"type": "Point", "coordinates": [2.35, 48.85]},
            "properties": {"@id": "node/1", "name": "Four", "shop": "bakery"},
        }
    ],
}
FSQ = {
    "fsq_place_id": "4b",
    "name": "Deli",
    "latitude": 40.7,
    "longitude": -74.0,
    "locality": "New York",
    "region": "NY",
    "fsq_category_labels": ["Dining > Deli"],
}

ITEMS = {
    "geonames.txt": (GEONAMES, "5128581", {"quote": "none", "delimiter": "\t"}),
    "places.parquet": (OVERTURE, "08f2a1", {}),
    "fsq.parquet": (FSQ, "4b", {}),
    "business.json": (json.dumps(YELP), "b1", {}),
    "meta.jsonl": (json.dumps(GOOGLE), "0x1", {}),
    "overpass.json": (json.dumps(OVERPASS, indent=1), "1", {}),
    "shops.geojson": (json.dumps(GEOJSON), "node/1", {}),
    "gowalla.csv": ("7\tPark\t40.501\t-74.252\n8\tBar\t40.512\t-74.263\n", "7", {"delimiter": "\t"}),
    "movies.csv": ("movieId,title,genres\n1,Toy Story (1995),Animation\n", "1", {}),
    "generic.csv": (
        "Shop ID;Title;Lat;Lng;Town\ns1;Kiosk;48,137;11,575;Munich\n",
        "s1",
        {"delimiter": ";", "decimal": ","},
    ),
    "latin.csv": ("id,name,x,y\nk1,Löwe,11.5,48.1\n".encode("cp1252"), "k1", {"encoding": "cp1252"}),
}
LOGS = {
    "review.json": (json.dumps(REVIEW), ("u", "b1"), {}),
    "google.jsonl": (json.dumps(GOOGLE_REVIEW), ("1", "0x1"), {}),
    "tsmc.txt": (YANG, ("470", "49bbd6c0f964a520f4531fe3"), {"time_format": "%a %b %d %H:%M:%S %z %Y"}),
    "checkins.tsv": ("0\t2010-10-12T00:21:28Z\t40.643\t-73.782\t23261\n", ("0", "23261"), {}),
    "ratings.csv": ("userId,movieId,rating,timestamp\n1,31,2.5,1260759144\n", ("1", "31"), {}),
    "dayfirst.csv": ("user,item,time\nu1,i1,13/04/2012\nu1,i2,03/04/2012\n", ("u1", "i1"), {"time_format": "%d/%m/%Y"}),
}


def _write(path: Path, content: Any) -> Path:
    if isinstance(content, dict):
        pq.write_table(pa.Table.from_pylist([content]), path)
    else:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def _init(*paths: Path) -> tuple[dict[str, Any], str]:
    found = [recognise(sniff(str(path))) for path in paths]
    assert all(found)
    text = configuration(one for one in found if one)
    return yaml.safe_load(text)["catalogue"]["source"], text


def _scanned(tmp_path: Path, text: str, table: str) -> list[dict[str, Any]]:
    (tmp_path / "my.yaml").write_text(text)
    config = load(str(tmp_path / "my.yaml")).catalogue
    parts = [part for unit in units(config) if unit.table == table for part in scan(unit, config)]
    assert sum(part.read for part in parts) == sum(len(part.accepted) for part in parts)
    return [row for part in parts for row in part.accepted.to_pylist()]


@pytest.mark.parametrize("name", ITEMS)
def test_items_of_every_maker_are_recognised_and_read(tmp_path: Path, name: str) -> None:
    content, key, options = ITEMS[name]
    source, text = _init(_write(tmp_path / name, content))
    assert {option: source["items"].get(option) for option in options} == options
    first = _scanned(tmp_path, text, "items")[0]
    assert first["item_id"] == key
    assert first["name"]
    assert (first["lat"] is None) == (name == "movies.csv")
    for line in text.splitlines():
        if line.startswith("        ") and ":" in line:
            assert "#" in line, "an assumption without an example beside it"


@pytest.mark.parametrize("name", LOGS)
def test_logs_of_every_maker_are_recognised_and_read(tmp_path: Path, name: str) -> None:
    content, (user, item), options = LOGS[name]
    items = _write(tmp_path / "items.csv", "item_id,name\na,A\n")
    source, text = _init(items, _write(tmp_path / name, content))
    assert {option: source["interactions"].get(option) for option in options} == options
    first = _scanned(tmp_path, text, "interactions")[0]
    assert (first["user_id"], first["item_id"]) == (user, item)
    assert first["timestamp"] is not None


def test_what_is_ambiguous_is_left_open_with_both_readings_beside_it(tmp_path: Path) -> None:
    items = _write(tmp_path / "items.csv", "item_id,name\na,A\n")
    source, text = _init(items, _write(tmp_path / "log.csv", "user,item,time\nu,a,03/04/2012\n"))
    assert "time_format" not in source["interactions"]
    assert '# time_format: "%d/%m/%Y"  # 03/04/2012 is 2012-04-03' in text
    assert '# time_format: "%m/%d/%Y"  # 03/04/2012 is 2012-03-04' in text


def test_a_price_that_is_no_number_is_switched_off_and_said(tmp_path: Path) -> None:
    source, text = _init(_write(tmp_path / "meta.jsonl", json.dumps(GOOGLE)))
    assert source["items"]["columns"]["price"] is None
    assert 'price: null  # price is no number: "$$"' in text
    assert (source["items"]["columns"]["category_1"], source["items"]["columns"]["category_2"]) == (
        "category[0]",
        "category[1]",
    )


def test_degrees_out_of_range_are_no_coordinates(tmp_path: Path) -> None:
    source, text = _init(_write(tmp_path / "a.csv", "id,name,x,y\nk,A,4465000,5331000\n"))
    assert not {"lat", "lon"} & set(source["items"]["columns"])
    assert "No coordinates were found" in text


def _lgsid(*words: str) -> Any:
    return CliRunner(env={"COLUMNS": "200", "TERM": "dumb"}).invoke(app, list(words))


def test_the_command_writes_once_and_names_what_it_cannot_do(tmp_path: Path) -> None:
    items, log = _write(tmp_path / "items.csv", "item_id,name\na,A\n"), _write(tmp_path / "log.csv", "user,item\nu,a\n")
    odd = _write(tmp_path / "odd.csv", "alpha,beta\n1,2\n")
    out = str(tmp_path / "my.yaml")
    assert _lgsid("init", str(items), str(log), "--out", out).exit_code == 0
    assert load(out).catalogue.source.kind == "files"
    again = _lgsid("init", str(items), "--out", out)
    assert (again.exit_code, "--force" in again.stderr) == (2, True)
    assert _lgsid("init", str(items), "--out", out, "--force").exit_code == 0
    for words, told in (
        ([str(odd)], r"columns ['alpha', 'beta']"),
        ([str(log)], "there is no table of items"),
        ([str(items), str(items)], "both look like items"),
        ([str(tmp_path / "none.csv")], "no such file"),
    ):
        refused = _lgsid("init", *words, "--out", "-")
        assert (refused.exit_code, told in refused.stderr) == (3, True), refused.stderr


def test_parts_that_a_shell_has_spelled_out_are_one_table(tmp_path: Path) -> None:
    parts = [_write(tmp_path / f"{number}.csv", f"item_id,name\n{number},A\n") for number in range(3)]
    result = _lgsid("init", *map(str, parts), "--out", "-")
    assert result.exit_code == 0, result.stderr
    assert f'path: "{tmp_path}/*.csv"' in result.stdout


def test_a_file_of_no_rows_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no row of data"):
        sniff(str(_write(tmp_path / "a.csv", "item_id,name\n")))
