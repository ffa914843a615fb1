"""Items that look like what someone typed, or mean it."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from lgsid_ray.artifacts import Embeddings, Items
from lgsid_ray.artifacts.embeddings import column
from lgsid_ray.evaluate.lookup import alike, likeness, nearest
from lgsid_ray.execution.storage import StageDir

NAMES = {"t1-000037": "Pearl Beacon Sushi", "t1-000038": "Pearl Moon Bakery", "x9": "CAFÉ Luna", "q": None}


@pytest.fixture
def items(tmp_path: Path) -> Items:
    count = len(NAMES)
    columns = {field.name: pa.nulls(count, field.type) for field in Items.schema}
    columns |= {"item_index": range(count), "item_id": list(NAMES), "name": list(NAMES.values())}
    found = Items(StageDir(str(tmp_path)))
    for part in range(2):
        found.write(pa.table(columns).slice(2 * part, 2), f"part-{part:05d}.parquet")
    return found


@pytest.mark.parametrize(
    ("typed", "first"),
    [("pearl becon sushi", "t1-000037"), ("café luna", "x9"), ("T1-00038", "t1-000038"), ("x9", "x9"), ("Q", "q")],
)
def test_slips_case_and_short_texts(items: Items, typed: str, first: str) -> None:
    assert alike(items, typed, 2)[0]["item_id"] == first


def test_the_best_of_all_parts_and_none_that_has_nothing_in_common(items: Items) -> None:
    assert [row["item_id"] for row in alike(items, "pearl", 5)] == ["t1-000038", "t1-000037"]
    assert len(alike(items, "pearl", 1)) == 1
    assert alike(items, "zzzz", 5) == []


def test_likeness_is_the_share_of_common_trigrams() -> None:
    found = likeness(pa.chunked_array([["abcd", "ABCD", "abxx", "", None]]), "abcd")
    assert found.tolist() == [1, 1, 0, 0, 0]
    assert likeness(pa.chunked_array([["abce"]]), "abcd").tolist() == [0.5]


def test_the_nearest_are_those_of_a_sort_over_all_parts(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((50, 8)).astype(np.float32)
    rows[40] = rows[7]  # of equals the lower number comes first
    table = Embeddings(StageDir(f"{tmp_path}/embed").make())
    order = rng.permutation(50)
    whole = pa.table({"item_index": order, "item_id": [f"i{row}" for row in order], "embedding": column(rows[order])})
    for part, start in enumerate((0, 13, 30)):
        table.write(whole.slice(start, (13, 17, 20)[part]), f"part-{part:05d}.parquet")
    for vector in (rows[7], rng.standard_normal(8).astype(np.float32)):
        found, score = nearest(vector, table, 6)
        assert found.tolist() == np.lexsort((np.arange(50), -(rows @ vector)))[:6].tolist()
        np.testing.assert_allclose(score, (rows @ vector)[found], rtol=1e-6)
    assert len(nearest(rows[0], table, 500)[0]) == 50
