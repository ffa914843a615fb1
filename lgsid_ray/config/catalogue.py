"""Where items and interactions come from, how columns map, how the splits are drawn."""

import codecs
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import Field, field_serializer, field_validator, model_validator

from lgsid_ray.config.base import Section

Format = Literal["auto", "parquet", "csv", "tsv", "json", "jsonl"]
Datum = Literal["wgs84", "gcj02", "bd09"]
Character = Annotated[str, Field(min_length=1, max_length=1)]

ITEM_REQUIRED = ("item_id", "name")
ITEM_COORDINATES = ("lat", "lon")
"""Both or neither; a catalogue without them is neither sampled nor aligned."""
ITEM_TEXTS = ("brand", "category_1", "category_2", "province", "city", "district")
ITEM_OPTIONAL = (*ITEM_COORDINATES, *ITEM_TEXTS, "price")
ITEM_POINT = "point"
"""Stands for lat and lon where a file has both in one column."""
LOG_REQUIRED = ("user_id", "item_id")
LOG_OPTIONAL = ("timestamp", "label")


class TableSource(Section):
    """One input table: files, their format, and which of their columns is which of ours."""

    path: str
    """File, directory, glob (`**` reaches folders in folders) or fsspec URI. `${NAME}` is replaced from the
    environment."""
    format: Format = "auto"
    """`auto` goes by the file name; .gz, .bz2, .xz and .zip are opened. `json`: an array, a GeoJSON FeatureCollection
    or lines."""
    columns: dict[str, str | None] = Field(default_factory=dict)
    """Ours to theirs, for example `{item_id: venue, lat: latitude}`. Unmapped ones keep their name; `null` leaves one
    out. Inside nested columns: `names.primary`, `categories[0]`, and `categories[*]` for all of them in one text."""
    constants: dict[str, str | float | int] = Field(default_factory=dict)
    """Columns with one value for the whole table, for example `{province: Texas}`."""
    null_marks: list[str] = ["\\N", "NULL", "null", "NaN", "nan", "<NA>"]
    """Texts that mean that there is nothing, beside the empty one; told from case."""
    decimal: Literal[".", ","] = "."
    """The decimal mark of numbers that are text."""
    time_format: str | None = None
    """Of times that are text, as in Python's strptime: `%d/%m/%Y %H:%M`. None: ISO 8601 alone."""
    encoding: str = "utf-8"
    """Of text formats, for example `cp1252` or `gb18030`; a byte order mark goes before it."""
    delimiter: Character | None = None
    """CSV only; None: comma, or tab for `tsv`."""
    quote: Literal["auto", "none"] | Character = "auto"
    """CSV only: what encloses a text with delimiters in it. `auto`: `"`, but a text that runs over lines which look
    like rows is refused; `none`: quotes are part of the texts; a character: this one, over any lines."""
    escape: Character | None = None
    """CSV only: what a quote within a text stands behind, for example a backslash; None: another quote."""
    header: list[str] | None = None
    """Column names of a CSV that has no header line."""

    @field_validator("encoding")
    @classmethod
    def _is_known(cls, name: str) -> str:
        try:
            codecs.lookup(name)
        except LookupError:
            raise ValueError("no encoding that Python knows; for example utf-8, cp1252, gb18030, utf-16") from None
        return name

    @field_validator("constants", mode="before")
    @classmethod
    def _texts_are_quoted(cls, constants: Any) -> Any:
        """YAML makes a truth value of NO and ON, and an octal number of 06037: too late to know what was meant."""
        for name, value in constants.items() if isinstance(constants, dict) else ():
            if isinstance(value, bool) or (name in ("name", *ITEM_TEXTS) and not isinstance(value, str)):
                raise ValueError(f"{name}: YAML reads it as {value!r}, not as text; quote it, for example {name}: 'NO'")
        return constants

    @field_serializer("path", when_used="json")
    def _without_secrets(self, path: str) -> str:
        """What is written down, and what a fingerprint covers: a URL that is signed anew names the same file."""
        return shown(path)

    def theirs(self, name: str) -> str | None:
        """What the file calls our column; None: it is switched off."""
        return self.columns.get(name, None if name == ITEM_POINT else name)


class FileSource(Section):
    """A real catalogue and, if there is one, its interaction log."""

    kind: Literal["files"] = "files"
    items: TableSource
    interactions: TableSource | None = None
    datum: Datum = "wgs84"
    """Datum of the input coordinates; everything inside is WGS-84."""
    max_items: int | None = Field(default=None, ge=1)
    """Seeded sub-sample of the accepted items; None keeps all."""
    sample_by: Literal["item", "district"] = "item"
    """What `max_items` draws: single items, or whole districts, which keeps neighbourhoods dense. Items whose district
    is unknown are in none."""
    min_interactions: int = Field(default=0, ge=0)
    """Leave out items with fewer rows in the log."""

    @model_validator(mode="after")
    def _columns_are_ours(self) -> "FileSource":
        _require_known("items", self.items, (*ITEM_REQUIRED, *ITEM_OPTIONAL, ITEM_POINT))
        given = {*(name for name, theirs in self.items.columns.items() if theirs), *self.items.constants}
        if ITEM_POINT in given and given & set(ITEM_COORDINATES):
            raise ValueError("items.columns: point stands for lat and lon; map it, or them")
        if self.interactions is not None:
            _require_known("interactions", self.interactions, (*LOG_REQUIRED, *LOG_OPTIONAL))
        return self


class WorldSource(Section):
    """The synthetic local-life world: real towns, brand chains, users who choose by distance and taste."""

    kind: Literal["world"] = "world"
    items: int = Field(default=3000, ge=1)
    users: int = Field(default=1500, ge=0)
    events_per_user: int = Field(default=30, ge=1)
    countries: list[str] = Field(default_factory=lambda: ["US"])
    """ISO country codes whose towns make the map."""
    towns: int = Field(default=60, ge=1)


class SplitConfig(Section):
    """Which items alignment never sees, and which events the recommenders are tested on."""

    held_city: float = Field(default=0.1, ge=0, lt=0.5)
    """Share of items held out by whole cities; none where a single city holds them all."""
    held_place: float = Field(default=0.1, ge=0, lt=0.5)
    """Share of items held out by whole districts of the other cities; where no item has one, none is held out so."""
    held_random: float = Field(default=0.2, ge=0, lt=0.5)
    """Share of items held out at random."""
    time_valid: float = Field(default=0.1, gt=0, lt=0.5)
    time_test: float = Field(default=0.1, gt=0, lt=0.5)
    """Shares of the events, latest last, for the rankers' time split."""


class CatalogueConfig(Section):
    """The catalogue stage."""

    source: Annotated[FileSource | WorldSource, Field(discriminator="kind")] = Field(default_factory=WorldSource)
    split: SplitConfig = Field(default_factory=SplitConfig)
    seed: int = Field(default=0, ge=0)
    """Of the world, the sub-sample and the splits; the run's own seed is everything after."""
    max_quarantine: float = Field(default=0.5, ge=0, le=1)
    """Refuse to go on when a larger share of the items' rows is quarantined."""
    max_log_quarantine: float = Field(default=0.5, ge=0, le=1)
    """Likewise of the log's rows, those whose item is not in the catalogue among them."""

    @model_validator(mode="after")
    def _enough_is_left(self) -> "CatalogueConfig":
        if self.split.held_city + self.split.held_place + self.split.held_random >= 0.8:
            raise ValueError("split.held_city + split.held_place + split.held_random must stay below 0.8")
        return self


def shown(path: str) -> str:
    """A path as messages, manifests and the quarantine may show it: of a URL neither user, password nor query."""
    if "://" not in path:
        return path
    parts = urlsplit(path)
    query = "?…" if parts.query else ""
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}{query}"


def _require_known(table: str, source: TableSource, known: tuple[str, ...]) -> None:
    for setting, names in (("columns", source.columns), ("constants", source.constants)):
        if unknown := sorted(set(names) - set(known)):
            raise ValueError(
                f"{table}.{setting}: {', '.join(unknown)} is no column of ours; they are {', '.join(known)} "
                "(ours stands left of the colon, yours right)"
            )
    if off := [name for name in known[:2] if name in source.columns and source.columns[name] is None]:
        raise ValueError(f"{table}.columns: {off[0]} cannot be left out; say which column it is")
    if twice := sorted(set(source.columns) & set(source.constants)):
        raise ValueError(f"{table}: {', '.join(twice)} stands both in columns and in constants; leave one")
