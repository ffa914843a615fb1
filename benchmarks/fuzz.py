"""Files and rows that are not in order, thousands of them: no row is lost, none is altered, nothing but a message.

    python benchmarks/fuzz.py --rows 10000 --files 500 --commands 20

Every mutant goes through the reading and validation of the catalogue stage. Whatever was done to it, read = accepted +
quarantined, every row that was not touched arrives as it was, and the file is otherwise refused by a message of ours;
any other exception, a file that takes longer than the limit, or memory that grows, is a violation. Some also go through
`lgsid catalogue` in a process of its own: exit code 0 or 3, and no traceback. A violation exits 1 and keeps its file.
"""

import argparse
import bz2
import csv
import decimal
import gzip
import io
import json
import lzma
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from lgsid_ray.catalog.scan import scan, units
from lgsid_ray.config import load
from lgsid_ray.errors import LgsidError

LIMIT_S = 30
GROWTH_MB = 600
PLAIN = 300
"""Rows of a file."""
Row = dict[str, Any]
NAMES = ("item_id", "name", "brand", "lat", "lon", "price")

CELLS: tuple[Any, ...] = (
    "", " ", "NULL", "\\N", "nan", "-", '"', "'", "a,b", 'say "hi"', "two\nlines", "cr\rlf\r\n", "tab\there", "é",
    "金龙", "\U0001f355", "\u202e", "\x00", "\x1a", "a" * 70_000, "1e999", "-0", "0x1f", "1,5", "$5", "12:30",
    "2012-13-45", "true", "[1, 2]", '{"a": 1}', "=1+1", "\\", '\\"', "\ufeff", "\u2028", "9" * 400,
)  # fmt: skip
TYPED: tuple[Any, ...] = (
    *CELLS,
    None,
    True,
    0,
    -1,
    2**70,
    1.5,
    1e300,
    [1],
    ["x", None],
    {"a": {"b": 1}},
    [],
    {},
    "\ud83c",
)


def rows_of(random: Random, count: int) -> list[Row]:
    """Rows that are in order."""
    return [
        {
            "item_id": f"i{number}",
            "name": f"Place {number}, the {random.choice(['good', 'bad', 'Löwe'])}",
            "brand": random.choice(["A", "B's", "C"]),
            "lat": round(random.uniform(40, 42), 5),
            "lon": round(random.uniform(-75, -73), 5),
            "price": random.randint(1, 90),
        }
        for number in range(count)
    ]


def as_csv(rows: list[Row], delimiter: str = ",") -> bytes:
    """Delimited text, quoted where it must be."""
    out = io.StringIO()
    writer = csv.writer(out, delimiter=delimiter, lineterminator="\n")
    writer.writerows([NAMES, *([row.get(name, "") for name in NAMES] for row in rows)])
    return out.getvalue().encode("utf-8", "surrogatepass")


def as_parquet(rows: list[Row]) -> bytes:
    """Parquet; columns that hold several types are text."""
    columns = {}
    for name in NAMES:
        values = [row.get(name) for row in rows]
        try:
            columns[name] = pa.array(values)
        except (pa.ArrowException, UnicodeError, OverflowError):
            columns[name] = pa.array([None if v is None else str(v).encode("utf-8", "surrogatepass") for v in values])
    out = io.BytesIO()
    pq.write_table(pa.table(columns), out, row_group_size=64)
    return out.getvalue()


def as_geojson(rows: list[Row]) -> bytes:
    """A FeatureCollection; lat and lon are properties, as they may be."""
    features = [{"type": "Feature", "properties": row, "geometry": None} for row in rows]
    return json.dumps({"type": "FeatureCollection", "features": features}).encode()


FORMATS: dict[str, Callable[[list[Row]], bytes]] = {
    "csv": as_csv,
    "tsv": lambda rows: as_csv(rows, "\t"),
    "jsonl": lambda rows: b"".join(json.dumps(row).encode() + b"\n" for row in rows),
    "json": lambda rows: json.dumps(rows).encode(),
    "geojson": as_geojson,
    "parquet": as_parquet,
}
PACKINGS: dict[str, Callable[[bytes], bytes]] = {
    "": bytes,
    ".gz": gzip.compress,
    ".bz2": bz2.compress,
    ".xz": lzma.compress,
}


def zipped(name: str, content: bytes) -> bytes:
    """An archive as a Mac packs one."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, content)
        archive.writestr(f"__MACOSX/._{name}", b"\x00\x05\x16\x07")
    return out.getvalue()


@dataclass
class Mutant:
    """A file that is not in order, and the rows that were not touched."""

    name: str
    content: bytes
    what: str
    untouched: list[Row]


def mutated_rows(random: Random, ending: str, touched: int) -> Mutant:
    """A whole file in which cells, or whole lines, of some rows are odd."""
    rows = rows_of(random, PLAIN)
    chosen = set(random.sample(range(PLAIN), touched))
    untouched = [row for number, row in enumerate(rows) if number not in chosen]
    if ending in ("csv", "tsv") and random.random() < 0.4:
        lines = FORMATS[ending](rows).split(b"\n")
        chosen = set(random.sample(sorted(chosen), random.choice([1, 2, 5])))  # of many, one would refuse the file
        untouched = [row for number, row in enumerate(rows) if number not in chosen]
        for number in chosen:
            lines[number + 1] = _torn(random, lines[number + 1])
        return Mutant(f"rows.{ending}", b"\n".join(lines), "lines", untouched)
    odd = CELLS if ending in ("csv", "tsv") else TYPED
    for number in chosen:
        rows[number] = {**rows[number], random.choice(NAMES): random.choice(odd)}
    return Mutant(f"rows.{ending}", FORMATS[ending](rows), "cells", untouched)


def _torn(random: Random, line: bytes) -> bytes:
    at = random.randrange(len(line))
    junk = random.choice([b'"', b",", b"\t", b"\\", b"\xff", b"\x00", b'""', b'",', b"\r", b"\xe9"])
    return random.choice(
        [line[:at] + junk + line[at:], line[:at], line + junk, junk + line, line[:at] + line[at + 1 :]]
    )


def mutated_file(random: Random, ending: str) -> Mutant:
    """A file to which something was done as a whole."""
    rows = rows_of(random, random.choice([1, 3, PLAIN]))
    content = FORMATS[ending](rows)
    what, change = random.choice(list(_CHANGES.items()))
    packing = random.choice([*PACKINGS, ".zip"])
    name = f"file.{ending}"
    if what == "packing":
        packed = zipped(name, content) if packing == ".zip" else PACKINGS[packing](content)
        content = _cut_or_flip(random, packed)
    else:
        if what == "types" and ending == "parquet":
            content = _odd_types(random, rows)
        elif what == "columns":
            content = FORMATS[ending](_other_columns(random, rows))
            content = content.replace(b"brand", random.choice([b"name", b"", b"item_id", b"br\nand"]), 1)
        else:
            content = change(random, content)
        content = zipped(name, content) if packing == ".zip" else PACKINGS[packing](content)
    return Mutant(name + packing, content, what, [])


def _cut_or_flip(random: Random, content: bytes) -> bytes:
    at = random.randrange(max(1, len(content)))
    if random.random() < 0.5:
        return content[:at]
    flipped = bytearray(content)
    for _ in range(random.choice([1, 5, 50])):
        flipped[random.randrange(len(flipped))] ^= 1 << random.randrange(8)
    return bytes(flipped)


def _injected(random: Random, content: bytes) -> bytes:
    for _ in range(random.choice([1, 3, 30])):
        at = random.randrange(len(content) + 1)
        junk = random.choice([b'"', b",", b"\n", b"\r", b"\x00", b"\\", b"{", b"]", b"\xff\xfe", b'"\n"', b"NaN"])
        content = content[:at] + junk + content[at:]
    return content


def _encoded(random: Random, content: bytes) -> bytes:
    text = content.decode("utf-8", "replace")
    return text.encode(random.choice(["utf-16", "utf-8-sig", "cp1252", "utf-32", "utf-7"]), "replace")


def _ended(random: Random, content: bytes) -> bytes:
    ends = [random.choice([b"\n", b"\r\n", b"\r", b"\n\n"]) for _ in range(content.count(b"\n"))]
    return b"".join(part + end for part, end in zip(content.split(b"\n"), [*ends, b""], strict=False))


def _other_columns(random: Random, rows: list[Row]) -> list[Row]:
    gone, twice = random.sample(NAMES, 2)
    return [{name: row[twice] if name == gone else value for name, value in row.items()} for row in rows]


def _odd_types(random: Random, rows: list[Row]) -> bytes:
    columns = {name: pa.array([row[name] for row in rows]) for name in NAMES}
    odd: list[pa.Array] = [
        pa.array([decimal.Decimal(number) for number in range(len(rows))], pa.decimal128(38, 0)),
        pa.array([decimal.Decimal(number) / 4 for number in range(len(rows))], pa.decimal128(38, 10)),
        pa.array([b"\xff\x00"] * len(rows)),
        pa.array(["x"] * len(rows)).dictionary_encode(),
        pa.array([{"a": 1, "b": [None]}] * len(rows)),
        pa.array([[1, None]] * len(rows)),
        pa.array([2**45] * len(rows), pa.timestamp("s")),
        pa.array([10**6] * len(rows), pa.int32()).view(pa.date32()),
        pa.array([10**9] * len(rows), pa.duration("ns")),
        pa.nulls(len(rows)),
        pa.array([float("nan")] * len(rows), pa.float32()),
        pa.array([2**64 - 1] * len(rows), pa.uint64()),
        pa.array([[("k", 1)]] * len(rows), pa.map_(pa.string(), pa.int64())),
        pa.array([True] * len(rows)),
    ]
    columns[random.choice(NAMES)] = random.choice(odd)
    out = io.BytesIO()
    pq.write_table(pa.table(columns), out)
    return out.getvalue()


_CHANGES: dict[str, Callable[[Random, bytes], bytes]] = {
    "bytes": _cut_or_flip,
    "marks": _injected,
    "encoding": _encoded,
    "line ends": _ended,
    "columns": lambda random, content: content,
    "types": _cut_or_flip,
    "packing": _cut_or_flip,
    "emptied": lambda random, content: random.choice(
        [b"", b"\n", b"[]", b"{}", b"\xef\xbb\xbf", b" " * 5000, content[:1]]
    ),
    "doubled": lambda random, content: content + content,
}


def read(path: Path) -> tuple[str, list[Row]]:
    """What comes of a file: `read` and its rows, or `refused`; anything else is raised."""
    try:
        config = load(None, [f"catalogue.source={{items: {{path: {json.dumps(str(path))}}}}}"]).catalogue
        parts = [part for unit in units(config) for part in scan(unit, config)]
    except LgsidError:
        return "refused", []
    count, left = sum(part.read for part in parts), sum(len(part.accepted) + len(part.rejects) for part in parts)
    if count != left:
        raise AssertionError(f"{count} rows were read, {left} are accounted for")
    return "read", [row for part in parts for row in part.accepted.to_pylist()]


def violation(mutant: Mutant, folder: Path) -> tuple[str, str]:
    """What came of a mutant, and what was wrong about that; empty: nothing."""
    path = folder / mutant.name
    path.write_bytes(mutant.content)

    def late(number: int, frame: object) -> None:
        raise TimeoutError(f"took longer than {LIMIT_S} s")

    signal.signal(signal.SIGALRM, late)
    signal.alarm(LIMIT_S)
    try:
        outcome, found = read(path)
    except Exception as error:
        return "violated", f"{type(error).__name__}: {error}"
    finally:
        signal.alarm(0)
    if outcome == "read":
        arrived = {tuple(row[name] for name in NAMES) for row in found}
        for row in mutant.untouched:
            if tuple(row[name] for name in NAMES) not in arrived:
                return "violated", f"a row that was not touched did not arrive as it was: {row}"
    return outcome, ""


def mutants(rows: int, files: int, seed: int, touched: int = 50) -> Iterator[tuple[str, Mutant]]:
    """(ending, mutant): as many with odd rows as hold `rows` of them in all, and `files` changed as a whole."""
    endings = list(FORMATS)
    for number in range(-(-rows // touched)):
        ending = endings[number % len(endings)]
        yield ending, mutated_rows(Random(f"{seed} rows {number}"), ending, touched)
    for number in range(files):
        ending = endings[number % len(endings)]
        yield ending, mutated_file(Random(f"{seed} file {number}"), ending)


def fuzz(rows: int, files: int, seed: int, keep: Path) -> tuple[Counter[tuple[str, str, str]], list[str]]:
    """Counts by format, mutation and outcome, and the violations, whose files are kept."""
    counts: Counter[tuple[str, str, str]] = Counter()
    wrong: list[str] = []
    start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with tempfile.TemporaryDirectory() as folder:
        for number, (ending, mutant) in enumerate(mutants(rows, files, seed)):
            outcome, told = violation(mutant, Path(folder))
            counts[ending, mutant.what, outcome] += 1
            if told:
                kept = keep / f"{number}-{mutant.name}"
                kept.parent.mkdir(parents=True, exist_ok=True)
                kept.write_bytes(mutant.content)
                wrong.append(f"{kept} ({mutant.what}): {told[:300]}")
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - start) / 1024
    print(f"memory: at most {grown:.0f} MB more than at the start")
    if grown > GROWTH_MB:
        wrong.append(f"memory grew by {grown:.0f} MB")
    return counts, wrong


def commands(count: int, seed: int) -> list[str]:
    """What is wrong about `lgsid catalogue` on `count` mutants, each in a process of its own."""
    wrong = []
    for ending, mutant in list(mutants(0, count, seed + 1)):
        folder = Path(tempfile.mkdtemp())
        (folder / mutant.name).write_bytes(mutant.content)
        source = f"catalogue.source={{items: {{path: {json.dumps(str(folder / mutant.name))}}}}}"
        command = [sys.executable, "-m", "lgsid_ray.cli", "catalogue", "--out", str(folder / "run"), "--set", source]
        done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
        told = done.stdout + done.stderr
        if done.returncode not in (0, 3) or "Traceback" in told or "internal error" in told:
            wrong.append(f"{ending} ({mutant.what}): exit code {done.returncode}: {done.stderr[-300:]}")
        shutil.rmtree(folder)
    return wrong


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=10_000, help="mutated rows")
    parser.add_argument("--files", type=int, default=500, help="mutated files")
    parser.add_argument("--commands", type=int, default=20, help="files that also go through `lgsid catalogue`")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, default=Path("build/fuzz"), help="where files of violations are kept")
    chosen = parser.parse_args()
    counts, wrong = fuzz(chosen.rows, chosen.files, chosen.seed, chosen.keep)
    wrong += commands(chosen.commands, chosen.seed)
    print(f"{'format':8} {'mutation':10} {'read':>6} {'refused':>8} {'violated':>9}")
    for ending, what in sorted({key[:2] for key in counts}):
        print(f"{ending:8} {what:10}", *(f"{counts[ending, what, out]:>8}" for out in ("read", "refused", "violated")))
    print(f"{counts.total()} files and {chosen.commands} commands: {len(wrong)} violations")
    for one in wrong:
        print(one)
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main())
