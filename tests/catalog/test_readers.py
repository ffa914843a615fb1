"""Every format, every way a file can be broken, and the row numbers that messages rest on."""

import bz2
import gzip
import json
import lzma
import zipfile
from pathlib import Path
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lgsid_ray.catalog import delimited, documents, readers
from lgsid_ray.catalog.readers import read
from lgsid_ray.catalog.rows import Chunk
from lgsid_ray.catalog.sources import discover
from lgsid_ray.config.catalogue import TableSource
from lgsid_ray.errors import InputError

NAMES = ("item_id", "name", "brand")
ROWS = [("1", "Café Löwe", "48.1"), ("2", "Bar, small", "48.2")]
CSV = 'item_id,name,brand\n1,Café Löwe,48.1\n2,"Bar, small",48.2\n'
TSV = "item_id\tname\tbrand\n1\tCafé Löwe\t48.1\n2\tBar, small\t48.2\n"
OBJECTS = [dict(zip(NAMES, row, strict=True)) for row in ROWS]
JSONL = "".join(json.dumps(row) + "\n" for row in OBJECTS)
ARRAY = json.dumps(OBJECTS, indent=1)
FEATURES = json.dumps(
    {
        "type": "FeatureCollection",
        "crs": {"a": [1]},
        "features": [{"type": "Feature", "properties": o} for o in OBJECTS],
    }
)


def _chunks(path: Path, table: str = "items", **settings: Any) -> list[Chunk]:
    source = TableSource(path=str(path), **settings)
    return [chunk for file in discover(source) for chunk in read(file, source, table)]


def _rows(chunks: list[Chunk]) -> list[tuple[Any, ...]]:
    """The values of our columns, in our order."""
    return [
        tuple(row)
        for chunk in chunks
        for row in zip(*(column.values.to_pylist() for column in chunk.columns.values()), strict=True)
    ]


def _rejects(chunks: list[Chunk]) -> list[tuple[int, str, str]]:
    return [reject for chunk in chunks for reject in chunk.rejects]


def _numbers(chunks: list[Chunk]) -> list[int]:
    return [int(row) for chunk in chunks for row in chunk.rows]


def _zip(path: Path, members: dict[str, str]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in members.items():
            archive.writestr(name, text)
    return path


TEXTS = [
    ("a.csv", CSV),
    ("a.txt", CSV),
    ("a.tsv", TSV),
    ("a.jsonl", JSONL),
    ("a.json", JSONL),
    ("a.json", ARRAY),
    ("a.json", "\n " + ARRAY),
    ("a.geojson", FEATURES),
    ("a.csv", "sep=;\n" + CSV.replace(",", ";")),
    ("a.csv", CSV.replace("\n", "\r\n")),
]
PACKINGS = {"": bytes, ".gz": gzip.compress, ".bz2": bz2.compress, ".xz": lzma.compress}


@pytest.mark.parametrize(("name", "text"), TEXTS)
@pytest.mark.parametrize("packing", PACKINGS)
def test_text_formats_give_the_same_rows(tmp_path: Path, name: str, text: str, packing: str) -> None:
    path = tmp_path / (name + packing)
    path.write_bytes(PACKINGS[packing](text.replace("Bar; small", "Bar, small").encode()))
    chunks = _chunks(path)
    assert _rows(chunks) == ROWS
    assert _numbers(chunks) == [1, 2]


def test_parquet_gives_the_same_rows_across_chunks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readers, "CHUNK_ROWS", 3)
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"item_id": range(8), "name": [f"n{row}" for row in range(8)]}), path)
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


@pytest.mark.parametrize("scheme", ["", "memory:/"])
def test_folders_and_globs_name_the_same_files_everywhere(tmp_path: Path, scheme: str) -> None:
    home = f"{scheme}{tmp_path}/in"
    fs, inner = fsspec.core.url_to_fs(home)
    files = ("b.csv", "a.csv", "_SUCCESS", ".hid.csv", "sub/c.csv", "sub/more/d.csv", "__MACOSX/a.csv", "sub/.x/e.csv")
    for name in files:
        fs.makedirs(f"{inner}/{name}".rpartition("/")[0], exist_ok=True)
        fs.pipe(f"{inner}/{name}", CSV.encode())

    def found(path: str) -> list[str]:
        return [file.path.removeprefix(home) for file in discover(TableSource(path=path))]

    assert found(f"{home}/*.csv") == ["/a.csv", "/b.csv"]
    assert found(f"{home}/**/*.csv") == ["/a.csv", "/b.csv", "/sub/c.csv", "/sub/more/d.csv"]
    assert found(f"{home}/**") == ["/a.csv", "/b.csv", "/sub/c.csv", "/sub/more/d.csv"]
    assert found(f"{home}/sub/more") == ["/sub/more/d.csv"]
    assert found(f"{home}/[ab].csv") == ["/a.csv", "/b.csv"]


@pytest.mark.parametrize("name", ["places [2024]", "what?", "2*2", ".hidden", "_in"])
def test_a_path_that_is_there_as_it_stands_is_no_pattern(tmp_path: Path, name: str) -> None:
    (tmp_path / name).mkdir()
    (tmp_path / name / "a.csv").write_text(CSV)
    for path in (tmp_path / name, tmp_path / name / "a.csv"):
        assert [file.path for file in discover(TableSource(path=str(path)))] == [str(tmp_path / name / "a.csv")]


def test_hidden_members_of_a_zip_are_passed_over_and_encrypted_ones_named(tmp_path: Path) -> None:
    members = {"a.csv": CSV, "__MACOSX/._a.csv": "x", ".DS_Store": "x", "in/.DS_Store": "x"}
    assert _rows(_chunks(_zip(tmp_path / "a.zip", members))) == ROWS
    whole = bytearray((tmp_path / "a.zip").read_bytes())
    for mark, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        whole[whole.index(mark) + offset] |= 1  # the flag of encryption, in both headers of the first member
    (tmp_path / "a.zip").write_bytes(whole)
    with pytest.raises(InputError, match=r"a\.zip!a\.csv: encrypted; unpack the archive with its password"):
        discover(TableSource(path=str(tmp_path / "a.zip")))


def test_a_file_without_header_takes_the_configured_names(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text(CSV.split("\n", 1)[1])
    chunks = _chunks(
        path, header=["venue", "title", "chain"], columns=dict(zip(NAMES, ("venue", "title", "chain"), strict=True))
    )
    assert _rows(chunks) == ROWS
    assert _numbers(chunks) == [1, 2]


def test_byte_order_mark_does_not_become_part_of_a_name(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text(CSV, encoding="utf-8-sig")
    assert _rows(_chunks(path)) == ROWS


@pytest.mark.parametrize("header", [None, list(NAMES)])
def test_ragged_rows_are_rejected_with_their_own_numbers(tmp_path: Path, header: list[str] | None) -> None:
    lines = ["1,a,5", "2,b", "3,c,5", "4,d,5,6", "5,e", "6,f,5"]
    path = tmp_path / "a.csv"
    path.write_text("\n".join(lines if header else ["item_id,name,brand", *lines]) + "\n")
    chunks = _chunks(path, header=header)
    assert {row[0]: number for row, number in zip(_rows(chunks), _numbers(chunks), strict=True)} == {
        "1": 1,
        "3": 3,
        "6": 6,
    }
    rejects = _rejects(chunks)
    assert [(number, text) for number, _, text in rejects] == [(2, "2,b"), (4, "4,d,5,6"), (5, "5,e")]
    assert "2 columns instead of 3" in rejects[0][1]
    assert "4 columns instead of 3" in rejects[1][1]


@pytest.mark.parametrize("size", [3, 10, 1000])
def test_row_numbers_survive_the_borders_of_chunks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    monkeypatch.setattr(delimited, "CHUNK_ROWS", size)
    torn = {number for number in range(1, 101) if number % 7 == 0 or number in (1, 99, 100)}
    lines = [f"{number},name" if number in torn else f"{number},name,5" for number in range(1, 101)]
    path = tmp_path / "a.csv"
    path.write_text("\n".join(["item_id,name,brand", *lines]) + "\n")
    chunks = _chunks(path)
    assert [int(row[0]) for row in _rows(chunks)] == _numbers(chunks)
    assert {number for number, _, _ in _rejects(chunks)} == torn


def test_jsonl_rejects_what_is_no_object_and_skips_blank_lines(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"item_id": 1}\n\n[2]\n{"item_id": 3, "name": "c"}\n{"item_id":\n')
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


def test_empty_lines_are_no_rows_and_no_header(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text(f"\n{CSV}\n\n")
    assert _rows(_chunks(path)) == ROWS
    path.write_text("\n\n")
    with pytest.raises(InputError, match="first line is empty"):
        _chunks(path)


def test_a_header_alone_is_a_file_of_no_rows(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("item_id,name,brand\n")
    assert _rows(_chunks(path)) == []


@pytest.mark.parametrize("cut", [20, -4, -200])
def test_a_truncated_parquet_is_refused(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"item_id": range(1000), "name": ["x"] * 1000}), path)
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(InputError, match=r"a\.parquet: after row 0: truncated, damaged, or not parquet"):
        _chunks(path)


def test_a_parquet_damaged_inside_is_refused_with_row_group_and_column(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    table = pa.table({"item_id": range(5000), "name": [f"text {row}" for row in range(5000)]})
    pq.write_table(table, path, row_group_size=2500, use_dictionary=False)
    start = pq.ParquetFile(path).metadata.row_group(1).column(1).data_page_offset
    whole = bytearray(path.read_bytes())
    whole[start : start + 500] = b"\xff" * 500
    path.write_bytes(whole)
    with pytest.raises(InputError, match=r"a\.parquet: row group 1, column 'name': cannot be read"):
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


@pytest.mark.parametrize(
    ("name", "plain", "odd"),
    [
        ("a.csv", "9,x,1\n", "9,Löwe,1\n"),
        ("a.tsv", "9\tx\t1\n", "9\tLöwe\t1\n"),
        ("a.jsonl", '{"item_id": 9, "name": "x", "brand": "1"}\n', '{"item_id": 9, "name": "Löwe", "brand": "1"}\n'),
    ],
)
def test_a_line_in_another_encoding_costs_its_row_and_many_cost_the_file(
    tmp_path: Path, name: str, plain: str, odd: str
) -> None:
    path = tmp_path / name
    head = {"a.csv": "item_id,name,brand\n", "a.tsv": "item_id\tname\tbrand\n", "a.jsonl": ""}[name].encode()
    path.write_bytes(head + plain.encode() * 300 + odd.encode("cp1252") + plain.encode())
    chunks = _chunks(path)
    assert sum(len(chunk.rows) for chunk in chunks) == 301
    ((row, reason, _),) = _rejects(chunks)
    assert row == 301
    assert reason.startswith("not utf-8 (byte 0xf6); set `encoding`")
    path.write_bytes(head + plain.encode() * 30 + odd.encode("cp1252") * 3)
    line = 31 + bool(head)
    with pytest.raises(InputError, match=rf"{name}: line {line} is not utf-8, nor are 3 of {line + 2} lines; set `enc"):
        _chunks(path)
    assert [row[1] for row in _rows(_chunks(path, encoding="cp1252"))[-3:]] == ["Löwe"] * 3


@pytest.mark.parametrize(("name", "text"), [("a.csv", CSV), ("a.jsonl", JSONL), ("a.json", ARRAY)])
@pytest.mark.parametrize("encoding", ["utf-16", "utf-8-sig"])
def test_a_byte_order_mark_tells_the_encoding(tmp_path: Path, name: str, text: str, encoding: str) -> None:
    path = tmp_path / name
    path.write_text(text, encoding=encoding)
    assert _rows(_chunks(path)) == ROWS


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


def _written(tmp_path: Path, text: str, name: str = "a.csv") -> Path:
    path = tmp_path / name
    path.write_text(text, newline="")
    return path


SWALLOWED = {
    "never closed": '1,A,x,42.1\n2,"B,x,42.2\n3,C,x,42.3\n4,D,x,42.4\n',
    "closed by another stray": '1,A,x,42.1\n2,"B,x,42.2\n3,C,x,42.3\n4,D",x,42.4\n5,E,x,42.5\n',
    "closed on the next line": '1,A,x,42.1\n2,"B,x,42.2\n3,C",x,42.3\n',
    "closed within a text": '1,A,x,42.1\n2,"B,x,42.2\n3,C,x,42.3\n4,D "d" D,x,42.4\n',
}


@pytest.mark.parametrize("body", SWALLOWED.values(), ids=SWALLOWED)
def test_a_stray_quote_swallows_no_row(tmp_path: Path, body: str) -> None:
    path = _written(tmp_path, "item_id,name,brand,price\n" + body)
    with pytest.raises(
        InputError, match=r"a\.csv: line 3: a quote opens a text that runs over \d lines.*`quote: none`"
    ):
        _chunks(path)
    unquoted = [row[1] for row in _rows(_chunks(path, quote="none"))]
    assert len(unquoted) == body.count("\n")
    assert unquoted[1] == '"B'


def test_the_user_may_vouch_for_texts_that_run_over_lines_like_rows(tmp_path: Path) -> None:
    path = _written(tmp_path, 'item_id,name,brand,price\n1,A,x,4\n2,"B\n7,C,x,5\n8,D,x,6\n9,E",x,7\n')
    with pytest.raises(InputError, match="line 3"):
        _chunks(path)
    assert [row[1] for row in _rows(_chunks(path, quote='"'))] == ["A", "B\n7,C,x,5\n8,D,x,6\n9,E"]


def test_texts_of_several_lines_are_one_row(tmp_path: Path) -> None:
    path = _written(
        tmp_path, 'item_id,name,brand,price\n1,"12 Main St\nBoston, MA",x,4\n2,"say ""hi"", he\nsaid",y,5\n'
    )
    chunks = _chunks(path)
    assert [row[1] for row in _rows(chunks)] == ["12 Main St\nBoston, MA", 'say "hi", he\nsaid']
    assert _numbers(chunks) == [1, 2]


def test_a_quote_gone_wrong_within_a_line_costs_that_row(tmp_path: Path) -> None:
    path = _written(tmp_path, 'item_id,name,brand\n1,"A" a,x\n2,B "b" B,y\n3,"C",z\n4,"D')
    chunks = _chunks(path)
    assert [row[:2] for row in _rows(chunks)] == [("2", 'B "b" B'), ("3", "C")]
    assert [(row, reason) for row, reason, _ in _rejects(chunks)] == [
        (1, "a text goes on behind its closing quote"),
        (4, "a quote opens a text that does not end"),
    ]


def test_escaped_quotes_are_named_and_read_where_the_source_says_so(tmp_path: Path) -> None:
    path = _written(tmp_path, 'item_id,name,brand\n1,"Joe \\"The\\" Bar, Grill",\\N\n2,B,x\n')
    ((row, reason, raw),) = _rejects(_chunks(path))
    assert (row, raw) == (1, '1,"Joe \\"The\\" Bar, Grill",\\N')
    assert "set `escape: '\\'`" in reason
    assert _rows(_chunks(path, escape="\\")) == [("1", 'Joe "The" Bar, Grill', "\\N"), ("2", "B", "x")]


def test_a_line_break_in_a_name_of_the_header_is_a_blank(tmp_path: Path) -> None:
    path = _written(tmp_path, 'item_id,name,"price\n(USD)"\n1,A,5\n')
    assert _rows(_chunks(path, columns={"price": "price (USD)"})) == [("1", "A", "5")]


@pytest.mark.parametrize("header", ["item_id,name,name", "item_id,name,,"])
def test_two_columns_of_one_name_matter_only_where_they_are_wanted(tmp_path: Path, header: str) -> None:
    path = _written(tmp_path, f"{header}\n{','.join('1AB8'[: header.count(',') + 1])}\n")
    if header.endswith("name"):
        with pytest.raises(InputError, match=r"a\.csv: 2 columns are called 'name'"):
            _chunks(path)
    else:
        assert _rows(_chunks(path)) == [("1", "A")]


def test_a_column_that_is_switched_off_is_not_read(tmp_path: Path) -> None:
    path = _written(tmp_path, "item_id,name,price\n1,A,much\n")
    assert _rows(_chunks(path, columns={"price": None})) == [("1", "A")]


def test_a_missing_column_names_file_column_and_remedy(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"a\.csv: column 'name' .* \['item_id', 'lat'\]; map it"):
        _chunks(_written(tmp_path, "item_id,lat\n1,2\n"))
    with pytest.raises(InputError, match=r"a\.csv: column 'chain' \(our brand\) is missing"):
        _chunks(_written(tmp_path, "item_id,name\n1,2\n"), columns={"brand": "chain"})


@pytest.mark.parametrize(("there", "missing"), [("lat", "lon"), ("lon", "lat")])
def test_one_coordinate_without_the_other_is_refused(tmp_path: Path, there: str, missing: str) -> None:
    told = rf"a\.csv: column '{missing}' is missing.*map it.*both, lat and lon, or neither"
    with pytest.raises(InputError, match=told):
        _chunks(_written(tmp_path, f"item_id,name,{there}\n1,A,2\n"))
    assert len(_rows(_chunks(tmp_path / "a.csv", constants={missing: 3.5}))) == 1
    with pytest.raises(InputError, match=told):
        _chunks(tmp_path / "a.csv", columns={there: None}, constants={there: 3.5})


@pytest.mark.parametrize(("mark", "word"), [(";", "';'"), ("\t", "a tab"), ("|", r"'\|'")])
def test_a_wrong_delimiter_is_recognised(tmp_path: Path, mark: str, word: str) -> None:
    with pytest.raises(InputError, match=f"separated by {word}: set `delimiter`"):
        _chunks(_written(tmp_path, mark.join(("item_id", "name", "lat", "lon")) + "\n"))


def test_a_key_that_occurs_late_is_a_column_all_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(documents, "CHUNK_ROWS", 2)
    lines = [{"item_id": row, "name": "A"} | ({"chain": "x"} if row == 4 else {}) for row in range(5)]
    path = _written(tmp_path, "".join(json.dumps(line) + "\n" for line in lines), "a.jsonl")
    chunks = _chunks(path, columns={"brand": "chain"})
    assert chunks[-1].columns["brand"].values.to_pylist() == ["x"]
    with pytest.raises(InputError, match=r"column 'chains' \(our brand\) is missing"):
        _chunks(path, columns={"brand": "chains"})


def test_an_array_is_read_on_over_the_borders_of_its_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [{"item_id": row * 1001, "name": f'[{row}] {{"é"}}', "brand": None} for row in range(200)]
    for block in (7, 64, 1 << 20):
        monkeypatch.setattr(documents, "_BLOCK", block)
        path = _written(tmp_path, json.dumps(rows), "a.json")
        assert _rows(_chunks(path)) == [tuple(row.values()) for row in rows]


@pytest.mark.parametrize("cut", [-1, -10, 300])
def test_an_array_that_is_cut_off_is_refused_with_the_place(tmp_path: Path, cut: int) -> None:
    path = _written(tmp_path, json.dumps([{"item_id": row, "name": "A"} for row in range(50)])[:cut], "a.json")
    with pytest.raises(InputError, match=r"a\.json: no longer JSON from character \d+ on.*how many rows"):
        _chunks(path)


@pytest.mark.parametrize("more", ["[]", "x", '{"item_id": 2, "name": "B"}'])
@pytest.mark.parametrize("text", ['[{"item_id": 1, "name": "A"}]', '{"features": [], "a": {"b": [1]}}'])
def test_what_stands_behind_the_end_of_a_document_is_not_passed_over(tmp_path: Path, text: str, more: str) -> None:
    assert len(_rows(_chunks(_written(tmp_path, text, "a.json")))) == ("item_id" in text)
    with pytest.raises(InputError, match=r"no longer JSON from character \d+ on: its end was expected"):
        _chunks(_written(tmp_path, f"{text}\n{more}", "a.json"))


def test_one_object_alone_is_no_table(tmp_path: Path) -> None:
    path = _written(tmp_path, json.dumps({"count": 2, "venues": {"a": 1}}, indent=1), "a.json")
    with pytest.raises(InputError, match=r"one JSON object with \['count', 'venues'\], not rows"):
        _chunks(path)


def test_the_point_of_a_feature_is_its_place(tmp_path: Path) -> None:
    geometry = {"type": "Point", "coordinates": [11.5, 48.1]}
    feature = {"type": "Feature", "id": 7, "geometry": geometry, "properties": {"name": "A", "tags": {"shop": "tea"}}}
    path = _written(tmp_path, json.dumps({"features": [feature, 5]}), "a.geojson")
    chunks = _chunks(path, columns={"item_id": "id", "category_1": "tags.shop"})
    assert _rows(chunks) == [(7, "A", 48.1, 11.5, "tea")]
    assert [(row, reason) for row, reason, _ in _rejects(chunks)] == [(2, "not an object")]


NESTED = {
    "id": ["a", "b"],
    "names": [{"primary": "A", "common": ["x", None, "y"]}, {"primary": None, "common": []}],
    "categories": [["tea", "cake"], None],
    "sources": [[{"dataset": "osm"}, {"dataset": "meta"}], []],
    "a.b": ["1", "2"],
}
PATHS = {
    "names.primary": ["A", None],
    "names.common[0]": ["x", None],
    "names.common[*]": ["x, y", None],
    "categories[1]": ["cake", None],
    "categories[*]": ["tea, cake", None],
    "sources[1].dataset": ["meta", None],
    "sources[*].dataset": ["osm, meta", None],
    "a.b": ["1", "2"],
}


@pytest.mark.parametrize("ending", ["parquet", "jsonl"])
@pytest.mark.parametrize("path", PATHS)
def test_paths_lead_into_nested_columns(tmp_path: Path, ending: str, path: str) -> None:
    file = _nested(tmp_path, ending)
    (chunk,) = _chunks(file, columns={"item_id": "id", "name": "id", "brand": path})
    assert chunk.columns["brand"].values.to_pylist() == PATHS[path]


@pytest.mark.parametrize("ending", ["parquet", "jsonl"])
def test_what_is_no_scalar_is_refused_with_the_paths_there_are(tmp_path: Path, ending: str) -> None:
    file = _nested(tmp_path, ending)
    with pytest.raises(InputError, match=r"for name holds objects.*there are names\.primary, names\.common\. Choose"):
        _chunks(file, columns={"item_id": "id", "name": "names"})
    with pytest.raises(InputError, match=r"for brand holds lists.*categories\[0\], categories\[\*\].*or leave it out"):
        _chunks(file, columns={"item_id": "id", "name": "id", "brand": "categories"})
    with pytest.raises(InputError, match=r"(column|lies at) 'names\.first' \(our name\)"):
        _chunks(file, columns={"item_id": "id", "name": "names.first"})


def _nested(folder: Path, ending: str) -> Path:
    table = pa.table(NESTED)
    path = folder / f"a.{ending}"
    if ending == "parquet":
        pq.write_table(table, path)
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in table.to_pylist()))
    return path
