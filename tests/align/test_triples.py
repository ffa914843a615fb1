"""Triples, training items, and which of either make a step."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from lgsid_ray.align.triples import batch_rows, read_triples, training_cities
from lgsid_ray.artifacts import Items, Triples
from lgsid_ray.errors import InputError, StorageError
from lgsid_ray.execution.storage import StageDir

Inputs = dict[str, StageDir]


def test_triples_come_as_anchor_positive_negative(tmp_path: Path) -> None:
    folder = StageDir(str(tmp_path))
    columns = {"negative": [5, 6], "source": ["near"] * 2, "hard": [True] * 2, "anchor": [1, 2], "positive": [3, 4]}
    folder.write_table("triples/part-00000.parquet", pa.table(columns))
    assert read_triples(Triples(folder)).tolist() == [[1, 3, 5], [2, 4, 6]]


def test_no_triples_and_torn_triples_are_refused(tmp_path: Path) -> None:
    folder = StageDir(str(tmp_path))
    folder.write_table("triples/part-00000.parquet", Triples.schema.empty_table())
    with pytest.raises(InputError, match="no preference triples"):
        read_triples(Triples(folder))
    Path(folder.path("triples/part-00000.parquet")).write_bytes(b"torn")
    with pytest.raises(StorageError, match=r"part-00000\.parquet is corrupt.*delete"):
        read_triples(Triples(folder))


def test_training_items_are_those_of_the_split_with_their_cities(inputs: Inputs) -> None:
    index, cities = training_cities(Items(inputs["catalogue"]))
    rows = inputs["catalogue"].read_table("items").to_pylist()
    expected = [row for row in rows if row["split"] == "train"]
    assert index.tolist() == [row["item_index"] for row in expected]
    names = np.array([row["province"] + "/" + row["city"] for row in expected])
    assert np.array_equal(cities[:, None] == cities, names[:, None] == names)


def test_items_of_an_unknown_city_are_not_watched(inputs: Inputs, tmp_path: Path) -> None:
    table = inputs["catalogue"].read_table("items")
    blank = pc.if_else(pc.equal(table.column("city"), "c1"), None, table.column("city"))
    Items(StageDir(str(tmp_path))).write(table.set_column(table.column_names.index("city"), "city", blank), "p.parquet")
    index, cities = training_cities(Items(StageDir(str(tmp_path))))
    rows = table.take(index)
    assert set(rows.column("split").to_pylist()) == {"train"}
    assert set(rows.column("city").to_pylist()) == {"c0", "c2"}
    assert set(cities.tolist()) == {0, 1}


@pytest.mark.parametrize(("count", "batch"), [(5, 12), (1, 4), (8, 8)])
def test_a_batch_larger_than_the_triples_goes_round(count: int, batch: int) -> None:
    drawn = np.concatenate([batch_rows(count, batch, step, seed=0) for step in range(count)])
    assert np.bincount(drawn, minlength=count).tolist() == [batch] * count


def test_ranks_share_a_batch_without_overlap_and_the_seed_matters() -> None:
    rows = batch_rows(100, 12, 3, seed=0)
    shares = [rows[rank::3] for rank in range(3)]
    assert sorted(np.concatenate(shares)) == sorted(rows.tolist())
    assert len(set(rows)) == 12
    assert not np.array_equal(rows, batch_rows(100, 12, 3, seed=1))
