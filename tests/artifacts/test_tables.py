"""Tables that pass between rooms: by parts, by key, checked; and label paths."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from lgsid_ray.artifacts import TABLES, Embeddings, Interactions, Items, Sids, apart
from lgsid_ray.artifacts.embeddings import column, vectors
from lgsid_ray.artifacts.interactions import trains
from lgsid_ray.artifacts.labels import SEPARATOR, label_paths, path_codes
from lgsid_ray.artifacts.table import lists, matrix
from lgsid_ray.errors import InputError, StorageError
from lgsid_ray.execution.storage import StageDir


@pytest.fixture
def folder(tmp_path: Path) -> StageDir:
    return StageDir(str(tmp_path))


def _embeddings(folder: StageDir, orders: list[list[int]]) -> Embeddings:
    table = Embeddings(folder)
    for number, order in enumerate(orders):
        rows = np.array([[i, -i, 0.5] for i in order], dtype=np.float32)
        columns = {"item_index": order, "item_id": [f"i{i}" for i in order], "embedding": column(rows)}
        table.write(pa.table(columns), f"part-{number}.parquet")
    return table


def test_every_table_has_a_name_and_a_schema_with_its_key() -> None:
    names = [table.name for table in TABLES]
    assert len(set(names)) == len(names)
    for table in TABLES:
        assert table.key in table.schema.names or table.name.startswith("inverse")


def test_rows_come_in_the_order_asked_for(folder: StageDir) -> None:
    table = _embeddings(folder, [[0, 1, 2], [3, 4]])
    found = table.rows(np.array([4, 0, 3]), ["item_id"])
    assert found.column_names == ["item_id"]
    assert found.column("item_id").to_pylist() == ["i4", "i0", "i3"]
    assert np.array_equal(table.of(np.array([2, 1])), [[2, -2, 0.5], [1, -1, 0.5]])
    with pytest.raises(StorageError, match="wanted item_index exactly once"):
        table.rows(np.array([0, 9]))


def test_check_wants_keys_in_order(folder: StageDir, tmp_path: Path) -> None:
    _embeddings(folder, [[0, 1], [2]]).check(3)
    with pytest.raises(StorageError, match="in order"):
        Embeddings(folder).check(4)
    with pytest.raises(StorageError, match="in order"):
        _embeddings(StageDir(str(tmp_path / "other")), [[0, 2], [1]]).check(3)


def test_an_empty_part_has_the_width_of_the_others() -> None:
    assert matrix(pa.chunked_array([], pa.list_(pa.float32(), 3))).shape == (0, 3)
    assert matrix(pa.chunked_array([[[1, 2], [3, 4]]])).tolist() == [[1, 2], [3, 4]]


def test_writing_takes_the_schemas_columns_and_names_what_is_missing(folder: StageDir) -> None:
    wide = pa.table({"sid": ["<a_1>"], "tokens": lists(np.array([[1]]), pa.int32()), "extra": [0]})
    with pytest.raises(InputError, match="item_index"):
        Sids(folder).write(wide)
    whole = wide.append_column("item_index", pa.array([0])).append_column("item_id", pa.array(["x"]))
    Sids(folder).write(whole.append_column("collision", pa.array([2])), "part-0.parquet")
    assert Sids(folder).read().schema.equals(Sids.schema)
    tokens, ranks = Sids(folder).tokens_and_ranks(1)
    assert tokens.tolist() == [[1]]
    assert ranks.tolist() == [2]


def test_vectors_round_trip() -> None:
    rows = np.arange(6, dtype=np.float32).reshape(3, 2)
    assert np.array_equal(vectors(pa.table({"embedding": column(rows)})), rows)


def test_tables_that_do_not_belong_together_are_told_in_one_way(folder: StageDir, tmp_path: Path) -> None:
    other = StageDir(str(tmp_path / "later"))
    error = apart(Items(folder), Sids(other), "3 items, 4 SIDs")
    assert isinstance(error, StorageError)
    assert f"delete {other.root} and run again" in str(error)


def test_what_trains_neither_recommender_is_not_counted(folder: StageDir) -> None:
    log = pa.table(
        {
            "user_id": ["u"] * 6,
            "item_index": pa.array([0, 0, 1, 1, 2, 2], pa.int64()),
            "item_id": ["x"] * 6,
            "timestamp": pa.nulls(6, pa.int64()),
            "label": [1.0, None, 1.0, 0.0, 4.0, 1.0],
            "rank_split": ["train", "train", "valid", "train", "train", "train"],
            "generate_split": ["train", None, "train", None, "test", "valid"],
        }
    )
    assert trains(log).tolist() == [True, True, False, False, False, False]
    Interactions(folder).write(log, "part-0.parquet")
    assert Interactions(folder).popularity(4).tolist() == [2, 0, 0, 0]
    assert Interactions(StageDir(folder.uri + "/none")).popularity(2).tolist() == [0, 0]


def test_paths_count_within_those_above_and_null_is_unknown() -> None:
    items = pa.table(
        {
            "province": ["B", "A", "A", None, "A"],
            "city": ["Springfield", "Springfield", None, "Springfield", "Springfield"],
            "district": ["x", "x", "x", "x", "y"],
        }
    )
    assert path_codes(items).tolist() == [[1, 1, 2], [0, 0, 0], [0, -1, -1], [-1, -1, -1], [0, 0, 1]]
    assert label_paths(items).to_pylist()[1] == SEPARATOR.join(["A", "Springfield", "x"])
    assert path_codes(items, 1).shape == (5, 1)
