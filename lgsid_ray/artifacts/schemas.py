"""The Arrow schema of every table that passes between rooms.

Tables are folders of Parquet parts. `item_index` numbers the accepted items 0..n-1 without gaps, in the order
of the parts and of the rows within them; `item_id` is the user's own key. Both travel together.
"""

import pyarrow as pa

from lgsid_ray.errors import InputError

ITEMS = pa.schema(
    [
        ("item_index", pa.int64()),
        ("item_id", pa.string()),
        ("name", pa.string()),
        ("brand", pa.string()),
        ("category_1", pa.string()),
        ("category_2", pa.string()),
        ("price", pa.float64()),
        ("province", pa.string()),
        ("city", pa.string()),
        ("district", pa.string()),
        ("lat", pa.float64()),  # degrees, WGS-84
        ("lon", pa.float64()),
        ("province_filled", pa.bool_()),  # True: from the gazetteer, not from the catalogue
        ("city_filled", pa.bool_()),
        ("district_filled", pa.bool_()),
        ("split", pa.string()),  # train | held_place | held_random
    ]
)

INTERACTIONS = pa.schema(
    [
        ("user_id", pa.string()),
        ("item_index", pa.int64()),
        ("item_id", pa.string()),
        ("timestamp", pa.int64()),  # Unix seconds; null where the log has no times
        ("label", pa.float64()),  # 1 click, 0 impression, or a rating
        ("rank_split", pa.string()),  # train | valid | test, by time: for click prediction
        ("generate_split", pa.string()),  # train | valid | test, leave-last-out per user; null on impressions
    ]
)

QUARANTINE = pa.schema(
    [
        ("table", pa.string()),  # items | interactions
        ("file", pa.string()),
        ("row", pa.int64()),  # 1-based data row within the file
        ("column", pa.string()),
        ("reason", pa.string()),
        ("raw", pa.string()),  # the raw row as JSON
    ]
)

NEGATIVES = pa.schema(
    [
        ("item_index", pa.int64()),  # the anchor
        ("negatives", pa.list_(pa.int64())),  # K item_index, near to far
        ("distance_km", pa.list_(pa.float32())),  # great-circle, of each negative
        ("rank", pa.list_(pa.int64())),  # neighbour rank of each negative; null where drawn uniformly
    ]
)

TRIPLES = pa.schema(
    [
        ("anchor", pa.int64()),
        ("positive", pa.int64()),
        ("negative", pa.int64()),
        ("source", pa.string()),  # collaborative | near | wide (i+ from the anchor's city or province, i- outside it)
        ("hard", pa.bool_()),  # the negative lies just outside the anchor's location
    ]
)

SIDS = pa.schema(
    [
        ("item_index", pa.int64()),
        ("item_id", pa.string()),
        ("tokens", pa.list_(pa.int32())),  # one per level
        ("collision", pa.int32()),  # 0-based rank among the items that share the tokens
        ("sid", pa.string()),  # <a_12><b_3><c_7>, with <x_1> behind it where the collision rank disambiguates
    ]
)

INVERSE = pa.schema(
    [
        ("tokens", pa.list_(pa.int32())),
        ("item_index", pa.list_(pa.int64())),
        ("item_id", pa.list_(pa.string())),
    ]
)


def embeddings(dimension: int) -> pa.Schema:
    """Schema of an embedding table: (n, dimension) float32, L2-normalised, in item_index order."""
    vector = pa.list_(pa.float32(), dimension)
    return pa.schema([("item_index", pa.int64()), ("item_id", pa.string()), ("embedding", vector)])


def list_embeddings(width: int) -> pa.Schema:
    """Schema of the mismatched lists: `embedding` holds (K + 1) * dimension float32, the true prompt first (Eq 1)."""
    vector = pa.list_(pa.float32(), width)
    return pa.schema([("item_index", pa.int64()), ("negatives", pa.list_(pa.int64())), ("embedding", vector)])


def conform(table: pa.Table, schema: pa.Schema, name: str) -> pa.Table:
    """`table` with exactly the schema's columns, in its order and types.

    Raises:
        InputError: a column is missing or cannot be converted; the table and column are named.
    """
    columns = []
    for field in schema:
        if field.name not in table.column_names:
            raise InputError(f"table {name}: column {field.name!r} is missing; it has {table.column_names}")
        try:
            columns.append(table.column(field.name).cast(field.type))
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
            raise InputError(f"table {name}: column {field.name!r} is not {field.type}: {error}") from None
    return pa.Table.from_arrays(columns, schema=schema)
