"""What stands behind codes, against plain loops, on tables whose parts are read one by one."""

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from lgsid_ray.artifacts import Items
from lgsid_ray.execution.storage import StageDir
from lgsid_ray.geo.distance import chord_to_km, unit_xyz
from lgsid_ray.tokenizer.survey import survey


def catalogue(folder: Path, **columns: Any) -> Items:
    """A table of items in parts of seven; columns that are not given are null."""
    count = len(next(iter(columns.values())))
    whole = {"item_index": range(count), "split": ["train", "held_place"] * (count // 2) + ["train"] * (count % 2)}
    whole |= columns
    table = pa.table({f.name: pa.array(whole.get(f.name, [None] * count), f.type) for f in Items.schema})
    items = Items(StageDir(str(folder)))
    for part, start in enumerate(range(0, count, 7)):
        items.write(table.slice(start, 7), f"part-{part:05d}.parquet")
    return items


def draw(count: int) -> dict[str, list[Any]]:
    rng = np.random.default_rng(0)
    city = rng.integers(0, 3, count)
    return {
        "lat": (40 + city + rng.normal(0, 0.1, count)).tolist(),
        "lon": (-74 - city + rng.normal(0, 0.1, count)).tolist(),
        "province": [["NY", "NJ", "NY"][c] for c in city],
        "city": [["Troy", "Troy", None][c] for c in city],  # two towns of one name, and items without a label
        "category_1": [f"c{c}" for c in rng.integers(0, 4, count)],
    }


def test_a_survey_against_a_loop(tmp_path: Path) -> None:
    columns = draw(45)
    code = np.random.default_rng(1).integers(0, 5, 45).astype(np.int32)
    found = survey(catalogue(tmp_path, **columns), code, 6)
    assert found.splits == {"train": 23, "held_place": 22}
    assert found.places is not None
    xyz = unit_xyz(columns["lat"], columns["lon"])
    for number in range(5):
        rows = [row for row in range(45) if code[row] == number]
        assert found.items[number] == len(rows)
        centre = xyz[rows].mean(axis=0)
        centre /= np.linalg.norm(centre)
        assert unit_xyz(found.places.lat[number], found.places.lon[number]) == pytest.approx(centre)
        km = np.median([chord_to_km(np.linalg.norm(xyz[row] - centre)) for row in rows])
        assert found.places.radius_km[number] == pytest.approx(km, rel=1e-4)
        for name, values in (
            ("city", [(columns["province"][row], columns["city"][row]) for row in rows if columns["city"][row]]),
            ("category", [("", columns["category_1"][row]) for row in rows]),
        ):
            (_, value), held = min(Counter(values).items(), key=lambda pair: (-pair[1], pair[0]))
            assert found.commonest[name].value[number] == value
            assert found.commonest[name].share[number] == pytest.approx(held / len(rows))
    assert found.items[5] == 0
    assert np.isnan([found.places.lat[5], found.places.radius_km[5]]).all()
    assert (found.commonest["city"].value[5], found.commonest["city"].share[5]) == (None, 0)


def test_what_a_catalogue_does_not_have_is_left_out(tmp_path: Path) -> None:
    found = survey(catalogue(tmp_path, name=["a"] * 9), np.zeros(9, np.int32), 1)
    assert found.places is None
    assert found.commonest == {}
    assert found.items.tolist() == [9]


def test_the_order_of_the_table_makes_no_difference(tmp_path: Path) -> None:
    columns, code = draw(30), np.arange(30, dtype=np.int32) % 3
    plain = survey(catalogue(tmp_path / "one", **columns), code, 3)
    order = np.random.default_rng(2).permutation(30)
    turned = {name: [values[row] for row in order] for name, values in columns.items()}
    other = survey(catalogue(tmp_path / "two", item_index=order, **turned), code, 3)
    assert other.commonest["city"].value == plain.commonest["city"].value
    assert plain.places is not None
    assert other.places is not None
    assert other.places.radius_km == pytest.approx(plain.places.radius_km)
