"""Prompts P = [P_content, P_location] and the mismatched prompts of Eq 1, as columns of strings."""

import string
from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from lgsid_ray.artifacts.schemas import ITEMS
from lgsid_ray.config.encoder import PromptConfig
from lgsid_ray.errors import ConfigError

Texts = list[str]


def content_prompts(items: pa.Table, prompt: PromptConfig) -> Texts:
    """P_content of every row: name, brand, category, price."""
    return _joined(items, prompt.content, prompt.separator)


def location_prompts(items: pa.Table, prompt: PromptConfig) -> Texts:
    """P_location of every row: province, city, district."""
    return _joined(items, prompt.location, prompt.separator)


def full_prompts(items: pa.Table, prompt: PromptConfig) -> Texts:
    """[P_content(i), P_location(i)] of every row."""
    return combine(content_prompts(items, prompt), location_prompts(items, prompt), prompt.separator)


def combine(contents: Sequence[str], locations: Sequence[str], separator: str) -> Texts:
    """[P_content, P_location] row by row; an empty half takes the separator with it."""
    return [separator.join(half for half in pair if half) for pair in zip(contents, locations, strict=True)]


def _joined(items: pa.Table, clauses: Sequence[str], separator: str) -> Texts:
    columns = [_clause(items, clause) for clause in clauses]
    rows = np.stack(columns, axis=1) if columns else np.full((len(items), 0), "", dtype=object)
    return [separator.join(part for part in row if part) for row in rows]


def _clause(items: pa.Table, clause: str) -> np.ndarray:
    """One clause of the template for every row; empty where any of its fields is null or empty."""
    try:
        fields = [name for _, name, _, _ in string.Formatter().parse(clause) if name is not None]
        for name in fields:
            if name not in ITEMS.names:
                raise ConfigError(
                    f"encoder.prompt: {clause!r} asks for {name!r}, which is no column of items; they are {ITEMS.names}"
                )
        clause.format(**dict.fromkeys(fields, "text"))
    except (ValueError, LookupError) as error:
        raise ConfigError(f"encoder.prompt: {clause!r} is no template for strings: {error}") from None
    values = [[_text(value) for value in items.column(name).to_pylist()] for name in fields]
    out = np.empty(len(items), dtype=object)
    for row in range(len(items)):
        given = {name: column[row] for name, column in zip(fields, values, strict=True)}
        out[row] = clause.format(**given) if all(given.values()) else ""
    return out


def _text(value: object) -> str:
    if value is None:
        return ""
    # All digits that were given, and no more: 6 of them would turn 1234567 into 1.23457e+06.
    return f"{value:.15g}" if isinstance(value, float) else str(value)
