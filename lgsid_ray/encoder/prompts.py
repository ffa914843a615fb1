"""Prompts P = [P_content, P_location] and the mismatched prompts of Eq 1, as columns of strings."""

import string
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pygeohash

from lgsid_ray.arrays import Object
from lgsid_ray.artifacts import Items
from lgsid_ray.config.encoder import PromptConfig
from lgsid_ray.errors import ConfigError

Texts = list[str]
GEOHASH = "geohash"
FIELDS = [*Items.schema.names, GEOHASH]


def content_prompts(items: pa.Table, prompt: PromptConfig) -> Texts:
    """P_content of every row: name, brand, category, price."""
    return _joined(items, prompt.content, prompt)


def location_prompts(items: pa.Table, prompt: PromptConfig) -> Texts:
    """P_location of every row: province, city, district; empty where none is known."""
    return _joined(items, prompt.location, prompt)


def full_prompts(items: pa.Table, prompt: PromptConfig) -> Texts:
    """[P_content(i), P_location(i)] of every row."""
    return combine(content_prompts(items, prompt), location_prompts(items, prompt), prompt)


def content_only_prompts(items: pa.Table, prompt: PromptConfig) -> Texts:
    """P_content(i) of every row as a prompt of its own."""
    return combine(content_prompts(items, prompt), [""] * len(items), prompt)


def query_prompts(queries: Sequence[str], prompt: PromptConfig) -> Texts:
    """Free-text queries with the prefix of queries: to find items by their embeddings."""
    return [prompt.query_prefix + query for query in queries]


def combine(contents: Sequence[str], locations: Sequence[str], prompt: PromptConfig) -> Texts:
    """[P_content, P_location] row by row, behind the prefix of documents; an empty half takes the separator with it."""
    pairs = zip(contents, locations, strict=True)
    return [prompt.document_prefix + prompt.separator.join(half for half in pair if half) for pair in pairs]


def _joined(items: pa.Table, clauses: Sequence[str], prompt: PromptConfig) -> Texts:
    columns = [_clause(items, clause, prompt.geohash_precision) for clause in clauses]
    rows = np.stack(columns, axis=1) if columns else np.full((len(items), 0), "", dtype=object)
    return [prompt.separator.join(part for part in row if part) for row in rows]


def _clause(items: pa.Table, clause: str, precision: int) -> Object:
    """One clause of the template for every row; empty where any of its fields is null or empty."""
    try:
        fields = [name for _, name, _, _ in string.Formatter().parse(clause) if name is not None]
        for name in fields:
            if name not in FIELDS:
                raise ConfigError(
                    f"encoder.prompt: {clause!r} asks for {name!r}, which is no field of items; they are {FIELDS}"
                )
        clause.format(**dict.fromkeys(fields, "text"))
    except (ValueError, LookupError) as error:
        raise ConfigError(f"encoder.prompt: {clause!r} is no template for strings: {error}") from None
    values = [
        _geohashes(items, precision) if name == GEOHASH else [_text(value) for value in items.column(name).to_pylist()]
        for name in fields
    ]
    out = np.empty(len(items), dtype=object)
    for row in range(len(items)):
        given = {name: column[row] for name, column in zip(fields, values, strict=True)}
        out[row] = clause.format(**given) if all(given.values()) else ""
    return out


def _geohashes(items: pa.Table, precision: int) -> Texts:
    points = zip(items.column("lat").to_pylist(), items.column("lon").to_pylist(), strict=True)
    return ["" if lat is None or lon is None else pygeohash.encode(lat, lon, precision) for lat, lon in points]


def _text(value: object) -> str:
    if value is None:
        return ""
    # All digits that were given, and no more: 6 of them would turn 1234567 into 1.23457e+06.
    return f"{value:.15g}" if isinstance(value, float) else str(value)
