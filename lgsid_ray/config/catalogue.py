"""Where items and interactions come from, how columns map, how the splits are drawn."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from lgsid_ray.config.base import Section

Format = Literal["auto", "parquet", "csv", "tsv", "jsonl"]
Datum = Literal["wgs84", "gcj02", "bd09"]

ITEM_REQUIRED = ("item_id", "name")
ITEM_COORDINATES = ("lat", "lon")
"""Both or neither; a catalogue without them is neither sampled nor aligned."""
ITEM_TEXTS = ("brand", "category_1", "category_2", "province", "city", "district")
ITEM_OPTIONAL = (*ITEM_COORDINATES, *ITEM_TEXTS, "price")
LOG_REQUIRED = ("user_id", "item_id")
LOG_OPTIONAL = ("timestamp", "label")


class TableSource(Section):
    """One input table: files, their format, and which of their columns is which of ours."""

    path: str
    """File, directory, glob or fsspec URI. `${NAME}` is replaced from the environment."""
    format: Format = "auto"
    """`auto` goes by the file name; .gz and .zip are opened."""
    columns: dict[str, str] = Field(default_factory=dict)
    """Ours to theirs, for example `{item_id: venue, lat: latitude}`. Unmapped ones keep their name."""
    constants: dict[str, str | float | int] = Field(default_factory=dict)
    """Columns with one value for the whole table, for example `{province: Texas}`."""
    delimiter: Annotated[str, Field(min_length=1, max_length=1)] | None = None
    """CSV only; None: comma, or tab for `tsv`."""
    header: list[str] | None = None
    """Column names of a CSV that has no header line."""


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
        _require_known("items", self.items, (*ITEM_REQUIRED, *ITEM_OPTIONAL))
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

    held_place: float = Field(default=0.2, ge=0, lt=0.5)
    """Share of items held out by whole districts; where no item has one, none is held out so."""
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

    @model_validator(mode="after")
    def _enough_is_left(self) -> "CatalogueConfig":
        if self.split.held_place + self.split.held_random >= 0.8:
            raise ValueError("split.held_place + split.held_random must stay below 0.8")
        return self


def _require_known(table: str, source: TableSource, known: tuple[str, ...]) -> None:
    for setting, names in (("columns", source.columns), ("constants", source.constants)):
        if unknown := sorted(set(names) - set(known)):
            raise ValueError(
                f"{table}.{setting}: {', '.join(unknown)} is no column of ours; they are {', '.join(known)} "
                "(ours stands left of the colon, yours right)"
            )
    if twice := sorted(set(source.columns) & set(source.constants)):
        raise ValueError(f"{table}: {', '.join(twice)} stands both in columns and in constants; leave one")
