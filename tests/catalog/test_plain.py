"""Lines cut at once: the fields are csv's to the letter, or csv is asked."""

import csv
import io
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lgsid_ray.catalog import delimited, plain
from lgsid_ray.catalog.plain import cut
from lgsid_ray.catalog.rows import wanted_columns
from lgsid_ray.catalog.sources import File
from lgsid_ray.config.catalogue import TableSource
from lgsid_ray.errors import InputError

PIECES = ('"', '""', ",", ";", "'", "\n", "\r", "\r\n", "a", "12", "é", " ", "\\", "\0", "\ufeff", "\u2028", "x" * 40)
TEXT = st.lists(st.sampled_from(PIECES), max_size=3).map("".join)
UNBROKEN = TEXT.map(lambda text: "".join(text.splitlines()))
QUOTED = UNBROKEN.map(lambda text: '"{}"'.format(text.replace('"', '""')))
ROW = st.lists(QUOTED, min_size=3, max_size=3) | st.lists(TEXT | QUOTED | st.just("1"), min_size=2, max_size=4)
LINE = st.builds(lambda row, end: ",".join(row) + end, ROW, st.sampled_from(("\n", "\r\n", "\r")))
BODY = st.lists(LINE, max_size=12).map("".join)
SOURCES = st.sampled_from(({}, {"quote": "none"}, {"quote": "'"}, {"quote": '"'}, {"delimiter": ";"}, {"escape": "\\"}))


def _read(content: bytes, chosen: dict[str, Any]) -> tuple[list[Any], str]:
    """All that comes of a file: numbers, cells, raw rows and what is torn, and the error."""
    source, found = TableSource(path="a.csv", header=["item_id", "name", "brand"], **chosen), list[Any]()
    try:
        chunks = delimited.delimited(File("a.csv", "csv"), io.BytesIO(content), source, wanted_columns(source, "items"))
        for chunk in chunks:
            cells = {name: column.values.to_pylist() for name, column in chunk.columns.items()}
            raw = [chunk.raw(place) for place in range(len(chunk.rows))]
            found.append((chunk.rows.tolist(), cells, raw, chunk.rejects))
    except InputError as error:
        return found, str(error)
    return found, ""


@given(BODY, SOURCES, st.sampled_from(("utf-8", "utf-16")))
@settings(max_examples=300)
def test_a_file_reads_the_same_whether_lines_are_cut_at_once_or_one_by_one(
    body: str, chosen: dict[str, Any], encoding: str
) -> None:
    content = body.encode(encoding)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(delimited, "CHUNK_ROWS", 5)
        patch.setattr(delimited, "_PIECE", 2)
        at_once = _read(content, chosen)
        patch.setattr(delimited, "cut", lambda *_: None)
        patch.setattr(delimited, "_PIECE", 5)
        patch.setattr(delimited._Records, "_plain", lambda *_: None)
        assert at_once == _read(content, chosen)


@given(
    st.lists(st.lists(UNBROKEN, min_size=2, max_size=2), min_size=1), st.sampled_from("\t,;"), st.sampled_from("\"'")
)
def test_whatever_is_written_with_quotes_is_cut_at_once(rows: list[list[str]], delimiter: str, quote: str) -> None:
    out = io.StringIO()
    csv.writer(out, delimiter=delimiter, quotechar=quote, quoting=csv.QUOTE_ALL, lineterminator="\n").writerows(rows)
    found = cut(out.getvalue().splitlines(keepends=True), 2, delimiter, quote)
    assert found is not None
    assert [[column[row].as_py() for column in found.columns] for row in range(len(found))] == rows


CARE = {
    "a stray quote that never closes": ["1,a\n", '2,"b\n'],
    "texts behind a closing quote": ['1,"a" a\n', "2,b\n"],
    "a quote within a text": ['1,6" sub\n', "2,b\n"],
    "a text of two lines": ['1,"a\n', 'b"\n', "2,b\n"],
    "as many quotes that begin as end": ['1,"a,"b\n', '2,b"\n'],
    "quotes before which no field begins": ['1"2,", a"b"\n', "2,b\n"],
    "another number of fields": ["1,a\n", "2,b,c\n"],
    "an empty line": ["1,a\n", "\n"],
    "bytes that are no text": ["1,a\n", "2,\udcff\n"],
    "a field beyond the limit of csv": ["1,a\n", f"2,{'a' * plain.LONGEST_FIELD}\n"],
}


@pytest.mark.parametrize("lines", CARE.values(), ids=CARE)
def test_what_needs_a_second_look_is_not_cut(lines: list[str]) -> None:
    assert cut(lines, 2, ",", '"') is None


@pytest.mark.parametrize(("delimiter", "quote"), [("§", '"'), (",", "§"), (",", "“"), ("\n", '"')])
def test_marks_that_arrow_does_not_know_are_left_to_csv(delimiter: str, quote: str) -> None:
    assert cut([f"{quote}1{quote}{delimiter}a\n"], 2, delimiter, quote) is None


def test_a_mark_with_two_meanings_is_left_to_csv() -> None:
    assert cut(['"a"\n'], 3, '"', '"') is None
    assert cut(["'a'\n"], 3, "'", '"') is not None


def test_a_byte_order_mark_within_a_file_is_part_of_its_text() -> None:
    found = cut(["\ufeff1,a\n", "2,b\n"], 2, ",", '"')
    assert found is not None
    assert found.column(0).to_pylist() == ["\ufeff1", "2"]


def test_more_than_arrow_holds_is_left_to_csv(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> pa.Table:
        raise OverflowError("value too large to convert to int32_t")

    monkeypatch.setattr(plain, "_parsed", refuse)
    assert cut(["1,a\n"], 2, ",", '"') is None
