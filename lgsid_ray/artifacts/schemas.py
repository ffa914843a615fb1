"""Schemas by their old names, until every room reads its tables through their classes."""

import pyarrow as pa

from lgsid_ray.artifacts import (
    Interactions,
    Inverse,
    Items,
    Negatives,
    Quarantine,
    Sids,
    Triples,
)
from lgsid_ray.artifacts.table import conform

ITEMS, INTERACTIONS, QUARANTINE = Items.schema, Interactions.schema, Quarantine.schema
NEGATIVES, TRIPLES, SIDS, INVERSE = Negatives.schema, Triples.schema, Sids.schema, Inverse.schema

__all__ = ["INTERACTIONS", "INVERSE", "ITEMS", "NEGATIVES", "QUARANTINE", "SIDS", "TRIPLES", "conform"]


def embeddings(dimension: int) -> pa.Schema:
    """Schema of an embedding table."""
    vector = pa.list_(pa.float32(), dimension)
    return pa.schema([("item_index", pa.int64()), ("item_id", pa.string()), ("embedding", vector)])


def list_embeddings(width: int) -> pa.Schema:
    """Schema of the mismatched lists."""
    vector = pa.list_(pa.float32(), width)
    return pa.schema([("item_index", pa.int64()), ("negatives", pa.list_(pa.int64())), ("embedding", vector)])
