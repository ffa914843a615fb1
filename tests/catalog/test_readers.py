"""Every format, every way a file can be broken, and the row numbers that messages rest on."""

import gzip
import json
import zipfile
from pathlib import Path
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lgsid_ray.catalog import readers
from lgsid_ray.catalog.readers import Chunk, read
from lgsid_ray.catalog.sources import discover
from lgsid_ray.config.catalogue import TableSource
from lgsid_ray.errors import InputError

ROWS = [("1", "Café Löwe", "48.1"), ("2", "Bar, small", "48.2")]
CSV = 'id,name,lat\n1,Café Löwe,48.1\n2,"Bar, small",48.2\n'
TSV = "id\tname\tlat\n1\tCafé Löwe\t48.1\n2\tBar, small\t48.2\n"
JSONL = "".join(json.dumps(dict(zip(("id", "name", "lat"), row, strict=True))) + "\n" for row in ROWS)


def _chunks(path: Path, **settings: Any) -> list[Chunk]:
    source = TableSource(path=str(path), **settings)
    return [chunk for file in discover(source) for chunk in read(file, source)]


def _rows(chunks: list[Chunk]) -> list[tuple[Any, ...]]:
    return [tuple(row) for chunk in chunks for row in zip(*chunk.columns.values(), strict=True)]


def _numbers(chunks: list[Chunk]) -> list[int]:
    return [int(row) for chunk in chunks for row in chunk.rows]


def _zip(path: Path, members: dict[str, str]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in members.items():
            archive.writestr(name, text)
    return path


@pytest.mark.parametrize(("name", "text"), [("a.csv", CSV), ("a.txt", CSV), ("a.tsv", TSV), ("a.jsonl", JSONL)])
@pytest.mark.parametrize("packing", ["", ".gz"])
def test_text_formats_give_the_same_rows(tmp_path: Path, name: str, text: str, packing: str) -> None:
    path = tmp_path / (name + packing)
    path.write_bytes(gzip.compress(text.encode()) if packing else text.encode())
    chunks = _chunks(path)
    assert _rows(chunks) == ROWS
    assert _numbers(chunks) == [1, 2]


def test_parquet_gives_the_same_rows_across_chunks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readers, "CHUNK_ROWS", 3)
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"id": range(8), "name": [f"n{row}" for row in range(8)]}), path)
    chunks = _chunks(path)
    assert [len(chunk.rows) for chunk in chunks] == [3, 3, 2]
    assert _rows(chunks) == [(row, f"n{row}") for row in range(8)]
    assert _numbers(chunks) == list(range(1, 9))


def test_every_member_of_a_zip_is_a_file_in_name_order(tmp_path: Path) -> None:
    path = _zip(tmp_path / "a.zip", {"b.jsonl": JSONL, "a.csv": CSV})
    assert [file.member for file in discover(TableSource(path=str(path)))] == ["a.csv", "b.jsonl"]
    assert _rows(_chunks(path)) == [*ROWS, *ROWS]


def test_a_gzip_that_is_called_zip_is_opened_all_the_same(tmp_path: Path) -> None:
    path = tmp_path / "a.csv.zip"
    path.write_bytes(gzip.compress(CSV.encode()))
    assert _rows(_chunks(path, format="csv")) == ROWS
    assert _rows(_chunks(path)) == ROWS


def test_a_folder_and_a_glob_name_their_files_in_order(tmp_path: Path) -> None:
    for name in ("2.csv", "1.csv", "3.tsv"):
        (tmp_path / name).write_text(TSV if name.endswith("tsv") else CSV)
    for name in ("_SUCCESS", ".hidden.csv"):
        (tmp_path / name).touch()
    names = [Path(file.path).name for file in discover(TableSource(path=str(tmp_path)))]
    assert names == ["1.csv", "2.csv", "3.tsv"]
    assert len(discover(TableSource(path=str(tmp_path / "*.csv")))) == 2


def test_a_folder_within_a_folder_is_refused_and_a_glob_reaches_it(tmp_path: Path) -> None:
    (tmp_path / "day=1").mkdir()
    (tmp_path / "day=1/a.csv").write_text(CSV)
    for path in (str(tmp_path), f"{tmp_path}/*"):
        with pytest.raises(InputError, match=r"day=1: a folder inside .* glob"):
            discover(TableSource(path=path))
    assert len(discover(TableSource(path=f"{tmp_path}/*/*.csv"))) == 1


def test_folders_and_globs_of_an_object_store_are_as_those_of_a_disk(tmp_path: Path) -> None:
    fs = fsspec.filesystem("memory")
    home = f"/{tmp_path.name}"
    for name in ("b.csv", "a.csv", "_SUCCESS"):
        fs.pipe(f"{home}/in/{name}", CSV.encode())
    for path in (f"memory:/{home}/in", f"memory:/{home}/in/*"):
        found = discover(TableSource(path=path))
        assert [file.path.rpartition("/")[2] for file in found] == ["a.csv", "b.csv"]


def test_a_file_without_header_takes_the_configured_names(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text(CSV.split("\n", 1)[1])
    chunks = _chunks(path, header=["venue", "title", "latitude"])
    assert list(chunks[0].columns) == ["venue", "title", "latitude"]
    assert _rows(chunks) == ROWS
    assert _numbers(chunks) == [1, 2]


def test_byte_order_mark_does_not_become_part_of_a_name(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text(CSV, encoding="utf-8-sig")
    assert list(_chunks(path)[0].columns) == ["id", "name", "lat"]


@pytest.mark.parametrize("header", [None, ["id", "name", "lat"]])
def test_ragged_rows_are_rejected_with_their_own_numbers(tmp_path: Path, header: list[str] | None) -> None:
    lines = ["1,a,5", "2,b", "3,c,5", "4,d,5,6", "5,e", "6,f,5"]
    path = tmp_path / "a.csv"
    path.write_text("\n".join(lines if header else ["id,name,lat", *lines]) + "\n")
    chunks = _chunks(path, header=header)
    assert {row[0]: number for row, number in zip(_rows(chunks), _numbers(chunks), strict=True)} == {
        "1": 1,
        "3": 3,
        "6": 6,
    }
    rejects = [reject for chunk in chunks for reject in chunk.rejects]
    assert [(number, text) for number, _, text in rejects] == [(2, "2,b"), (4, "4,d,5,6"), (5, "5,e")]
    assert "2 columns instead of 3" in rejects[0][1]
    assert "4 columns instead of 3" in rejects[1][1]


@pytest.mark.parametrize("block", [64, 200, 1 << 20])
def test_row_numbers_survive_block_borders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, block: int) -> None:
    monkeypatch.setattr(readers, "_CSV_BLOCK", block)
    torn = {number for number in range(1, 101) if number % 7 == 0 or number in (1, 99, 100)}
    lines = [f"{number},name" if number in torn else f"{number},name,5" for number in range(1, 101)]
    path = tmp_path / "a.csv"
    path.write_text("\n".join(["id,name,lat", *lines]) + "\n")
    chunks = _chunks(path)
    assert [int(row[0]) for row in _rows(chunks)] == _numbers(chunks)
    assert {number for chunk in chunks for number, _, _ in chunk.rejects} == torn


def test_jsonl_rejects_what_is_no_object_and_skips_blank_lines(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"id": 1}\n\n[2]\n{"id": 3, "name": "c"}\n{"id":\n')
    chunks = _chunks(path)
    assert _rows(chunks) == [(1, None), (3, "c")]
    assert _numbers(chunks) == [1, 4]
    assert [number for chunk in chunks for number, _, _ in chunk.rejects] == [3, 5]


@pytest.mark.parametrize("name", ["none.csv", "none*.csv", "none/none.parquet"])
def test_a_missing_file_is_named(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match="no such file") as raised:
        discover(TableSource(path=str(tmp_path / name)))
    assert str(tmp_path / name) in str(raised.value)


@pytest.mark.parametrize("name", ["a.csv", "a.parquet", "a.jsonl", "a.zip", "a.csv.gz"])
def test_an_empty_file_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / name).touch()
    with pytest.raises(InputError, match=rf"{name}: the file is empty"):
        discover(TableSource(path=str(tmp_path / name)))


def test_an_empty_first_line_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("\n1,2\n")
    with pytest.raises(InputError, match="first line is empty"):
        _chunks(path)


def test_a_header_alone_is_a_file_of_no_rows(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("id,name,lat\n")
    assert _rows(_chunks(path)) == []


@pytest.mark.parametrize("cut", [20, -4, -200])
def test_a_truncated_parquet_is_refused(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"id": range(1000)}), path)
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(InputError, match=r"a\.parquet: truncated or not parquet"):
        _chunks(path)


def test_a_parquet_damaged_inside_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"id": [f"text {row}" for row in range(5000)]}), path)
    whole = bytearray(path.read_bytes())
    whole[4:2000] = b"\xff" * 1996
    path.write_bytes(whole)
    with pytest.raises(InputError, match=r"a\.parquet"):
        _chunks(path)


@pytest.mark.parametrize("name", ["a.csv.gz", "a.jsonl.gz"])
def test_a_truncated_gzip_is_refused(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(gzip.compress((CSV if "csv" in name else JSONL).encode() * 500)[:-20])
    with pytest.raises(InputError, match="truncated"):
        _chunks(path)


def test_a_truncated_zip_is_refused(tmp_path: Path) -> None:
    path = _zip(tmp_path / "a.zip", {"a.csv": CSV * 100})
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(InputError, match=r"a\.zip"):
        _chunks(path)


@pytest.mark.parametrize("name", ["a.csv", "a.tsv", "a.jsonl"])
@pytest.mark.parametrize("where", ["first", "late"])
def test_text_that_is_not_utf8_is_refused(tmp_path: Path, name: str, where: str) -> None:
    text = {"a.csv": CSV, "a.tsv": TSV, "a.jsonl": '{"name": "Löwe"}\n'}[name]
    plain = {"a.csv": "9,x,1\n", "a.tsv": "9\tx\t1\n", "a.jsonl": '{"name": "x"}\n'}[name]
    body = text.encode("latin-1")
    if where == "late":
        head = text.split("\n", 1)[0].encode() + b"\n" if name != "a.jsonl" else b""
        body = head + plain.encode() * 30_000 + body
    path = tmp_path / name
    path.write_bytes(body)
    line = 1 + next(number for number, raw in enumerate(body.split(b"\n")) if not raw.isascii())
    with pytest.raises(InputError, match=rf"{name}: line {line} is not UTF-8 \(byte 0x[ef][0-9a-f]\).*iconv -f LATIN1"):
        _chunks(path)


@pytest.mark.parametrize("name", ["a.csv", "a.jsonl"])
def test_utf_16_is_told_from_other_encodings(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_text({"a.csv": CSV, "a.jsonl": JSONL}[name], encoding="utf-16")
    with pytest.raises(InputError, match=r"line 1 is not UTF-8.*iconv -f UTF-16"):
        _chunks(path)


@pytest.mark.parametrize("path", ["nothing://a/b.csv", "http://127.0.0.1:1/a.csv"])
def test_what_cannot_be_opened_is_named(path: str) -> None:
    with pytest.raises(InputError, match=f"{path}: cannot be opened"):
        discover(TableSource(path=path))


def test_an_unknown_ending_asks_for_the_format(tmp_path: Path) -> None:
    path = tmp_path / "a.dat"
    path.write_text(CSV)
    with pytest.raises(InputError, match="set `format`"):
        discover(TableSource(path=str(path)))
    assert _rows(_chunks(path, format="csv")) == ROWS
