"""What a reader hands on: rows in chunks, and which of a file's columns is which of ours."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from lgsid_ray.arrays import Int64
from lgsid_ray.catalog import paths
from lgsid_ray.catalog.columns import Column
from lgsid_ray.catalog.sources import File
from lgsid_ray.config.catalogue import (
    ITEM_COORDINATES,
    ITEM_OPTIONAL,
    ITEM_POINT,
    ITEM_REQUIRED,
    LOG_OPTIONAL,
    LOG_REQUIRED,
    TableSource,
)
from lgsid_ray.errors import InputError

CHUNK_ROWS = 20_000


@dataclass
class Chunk:
    """Some rows of a file.

    Attributes:
        rows: (n,) 1-based row numbers within the file.
        columns: those of ours that the file has, (n,) cells each.
        raw: the row at a position as the file has it, for the quarantine.
        names: of all columns of the file, as far as they are known.
        rejects: rows that could not even be split into columns: number, reason, raw text.
    """

    rows: Int64
    columns: dict[str, Column]
    raw: Callable[[int], Any]
    names: Sequence[str] = ()
    rejects: list[tuple[int, str, str]] = field(default_factory=list)


@dataclass(frozen=True)
class Wanted:
    """One of our columns that a file may have."""

    name: str
    path: str
    """What the file calls it: a column, or a path into one."""
    must: bool
    """Whether it is an error when the file has none."""

    @property
    def key(self) -> bool:
        """Whether it holds keys."""
        return self.name in ("item_id", "user_id")


def wanted_columns(source: TableSource, table: str) -> list[Wanted]:
    """The columns of ours that a file of `source` is searched for."""
    required = ITEM_REQUIRED if table == "items" else LOG_REQUIRED
    names = (*ITEM_REQUIRED, *ITEM_OPTIONAL, ITEM_POINT) if table == "items" else (*LOG_REQUIRED, *LOG_OPTIONAL)
    found = [(name, source.theirs(name)) for name in names if name not in source.constants]
    return [Wanted(name, path, name in required or name in source.columns) for name, path in found if path]


@dataclass(frozen=True)
class Layout:
    """Where our columns lie among a file's: by name, the column's position and the steps inside it."""

    places: dict[str, tuple[int, paths.Steps]]
    missing: list[Wanted]


def lay_out(names: Sequence[str], wanted: Iterable[Wanted], file: File) -> Layout:
    """Find our columns among the `names` of a file.

    Raises:
        InputError: one of them is there twice.
    """
    places, missing = {}, []
    for one in wanted:
        found = paths.resolve(one.path, names)
        if found is None:
            missing.append(one)
            continue
        if names.count(found[0]) > 1:
            raise InputError(
                f"{file.label}: {names.count(found[0])} columns are called {found[0]!r}; rename them, so that it is "
                "clear which is meant"
            )
        places[one.name] = (names.index(found[0]), found[1])
    return Layout(places, missing)


def require(layout: Layout, names: Sequence[str], file: File, source: TableSource) -> None:
    """Stop where the file lacks a column that it must have, or has lat and not lon.

    Raises:
        InputError: with what the file has, and what to do.
    """
    for one in layout.missing:
        if one.must:
            raise InputError(_missing(one, names, file, source))
    known = {*layout.places, *source.constants}
    if len(known.intersection(ITEM_COORDINATES)) == 1:
        (lacking,) = set(ITEM_COORDINATES) - known
        told = _missing(Wanted(lacking, source.theirs(lacking) or lacking, must=True), names, file, source)
        raise InputError(f"{told}; items have both, lat and lon, or neither")


def not_scalar(one: str, there: Sequence[str], kind: str, file: File) -> InputError:
    """The error for a column of ours that is an object or a list, with the paths that lead to a value."""
    example = f"`columns: {{{one}: '{there[0]}'}}`" if there else "it is empty"
    leave = "" if one in (*ITEM_REQUIRED, *LOG_REQUIRED) else f", or leave it out: `columns: {{{one}: null}}`"
    return InputError(
        f"{file.label}: the column for {one} holds {kind}, not one value a row; there are {', '.join(there[:6])}. "
        f"Choose a part of it, for example {example}{leave}"
    )


def _missing(one: Wanted, names: Sequence[str], file: File, source: TableSource) -> str:
    ours = f" (our {one.name})" if one.path != one.name else ""
    message = f"{file.label}: column {one.path!r}{ours} is missing; the file has {list(names)}"
    if len(names) == 1 and file.format in ("csv", "tsv"):
        used = delimiter_of(file, source)
        for mark, word in (("\t", "a tab"), (";", "';'"), (",", "','"), ("|", "'|'")):
            if mark != used and mark in names[0]:
                return f"{message}; it looks separated by {word}: set `delimiter` to it"
    return f"{message}; map it with `columns: {{{one.name}: theirs}}`"


def delimiter_of(file: File, source: TableSource) -> str:
    """The delimiter that `file` is read with."""
    return source.delimiter or ("\t" if file.format == "tsv" else ",")
