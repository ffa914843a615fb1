"""Districts and the draws inside and outside of them."""

import numpy as np
import pyarrow as pa
import pytest

from lgsid_ray.config import RunConfig, load
from lgsid_ray.draws import random_bits
from lgsid_ray.errors import ConfigError, InputError
from lgsid_ray.geo.distance import unit_xyz
from lgsid_ray.geo.points import group_by_point
from lgsid_ray.preference.districts import CITY, DISTRICT, PROVINCE, locate, members, read_districts, require_districts
from lgsid_ray.preference.hard_negatives import Embedded, alike_outside, just_outside

DISTRICTS = ["a", "b", "a", "c", "a", None, "b", "a"]
SPLIT = ["train", "train", "held_place", "train", "train", "train", "train", "train"]


@pytest.fixture
def items():
    n = len(DISTRICTS)
    return pa.table(
        {
            "item_index": np.arange(n),
            "lat": np.arange(n) * 1.0,
            "lon": np.zeros(n),
            "split": SPLIT,
            "province": ["p"] * n,
            "city": ["x"] * 6 + ["y"] * 2,  # district a of city y is another district than a of x
            "district": pa.array(DISTRICTS, pa.string()),
        }
    )


@pytest.fixture
def districts(items):
    return locate([read_districts(items.slice(0, 3)), read_districts(items.slice(3))])


def test_districts_are_named_by_province_city_and_district(districts):
    groups = np.split(districts.members, districts.starts[1:-1])
    assert sorted(group.tolist() for group in groups) == [[0, 4], [1], [3], [6], [7]]
    assert districts.code[2] == -1, "it does not train"
    assert districts.code[5] == -1, "its district is unknown"
    mean = unit_xyz([0.0, 4.0], [0.0, 0.0]).mean(axis=0)
    np.testing.assert_allclose(districts.centre[districts.code[0]], mean, atol=1e-12)


def test_draws_stay_inside_and_outside(districts):
    items = np.repeat(np.array([0, 1, 4]), 2000)
    bits = random_bits(0, "t", np.arange(len(items)))
    inside, outside = districts.inside(items, bits), districts.outside(items, bits)
    assert set(inside[items == 0]) == {4}
    assert set(inside[items == 4]) == {0}
    assert set(inside[items == 1]) == {-1}
    assert (districts.code[outside] != districts.code[items]).all()
    assert sorted(set(outside[items == 0])) == [1, 3, 6, 7]
    np.testing.assert_allclose(np.bincount(outside[items == 0])[[1, 3, 6, 7]] / 2000, 0.25, atol=0.04)


def test_wider_regions_are_the_city_and_the_province():
    table = pa.table(
        {
            "lat": np.arange(7.0),
            "lon": np.zeros(7),
            "split": ["train"] * 7,
            "province": list("ppppqqq"),
            "city": list("xxyyxxz"),
            "district": list("abaaaba"),  # city x of province p is another than x of q
        }
    )
    districts = locate([read_districts(table)])
    items = np.repeat(np.arange(7), 300)
    bits = random_bits(0, "t", np.arange(len(items)))
    for level, key in ((PROVINCE, "ppppqqq"), (CITY, "0011223")):
        inside, outside = districts.inside(items, bits, level), districts.outside(items, bits, level)
        for item in range(7):
            mates = {other for other in range(7) if key[other] == key[item] and other != item}
            assert set(inside[items == item]) == (mates or {-1})
            assert set(outside[items == item]) == set(range(7)) - mates - {item}
    assert districts.contrast(np.arange(7), np.full(7, PROVINCE)).tolist() == [PROVINCE] * 7
    one = locate([read_districts(table.slice(0, 4))])
    assert one.contrast(np.arange(4), np.full(4, PROVINCE)).tolist() == [DISTRICT] * 4


def test_an_unknown_label_anywhere_in_the_path_leaves_an_item_out_of_every_draw(items, districts):
    assert members(items)[1].tolist() == sorted(districts.members.tolist()) == [0, 1, 3, 4, 6, 7]
    for level in ("province", "city"):
        labels = pa.array(["p", None] * 4)
        table = items.set_column(items.column_names.index(level), level, labels)
        assert members(table)[1].tolist() == [0, 4, 6]
        assert sorted(locate([read_districts(table)]).members.tolist()) == [0, 4, 6]


@pytest.mark.parametrize("count", [0, 1])
def test_a_catalogue_in_which_nothing_lies_elsewhere_is_refused(count):
    require_districts(RunConfig(), {"training_districts": 2})
    with pytest.raises(InputError, match=rf"lie in {count} known.*so none lies elsewhere.*align.objective=distil"):
        require_districts(RunConfig(), {"training_districts": count})


def test_just_outside_passes_over_the_own_district(districts):
    near = group_by_point(districts.key[[0, 1, 3, 4]], np.array([0, 1, 3, 4]))
    neighbours = np.array([[3, 1, 2]] * 500)  # of item 0: item 4 (its own district), then 1, then 3
    bits = np.stack([random_bits(0, "p", np.arange(500)), random_bits(0, "i", np.arange(500))], axis=1)
    assert set(just_outside(np.zeros(500, int), neighbours, near, districts, bits)) == {1, 3}
    # Nothing else among the neighbours: the district whose centre is nearest (item 1 at 1 degree, or 3 at 3).
    only_own = just_outside(np.zeros(500, int), neighbours[:, :1], near, districts, bits)
    assert set(only_own) in ({1}, {3})


def test_alike_outside_prefers_resemblance(districts):
    anchors, pool = np.array([0, 1]), np.array([0, 1, 3, 4, 5])
    vectors = np.eye(3, dtype=np.float32)[[0, 1, 2, 0, 0]]
    found = alike_outside(
        Embedded(anchors, vectors[:2]), Embedded(pool[[3]], vectors[[3]]), districts, random_bits(0, "a", anchors)
    )
    assert found.tolist() == [-1, 4]  # 4 lies in the district of 0


def test_shares_must_fit():
    with pytest.raises(ConfigError, match="must not exceed 1"):
        load(None, ["preference.hard=0.7", "preference.content=0.5"])
    with pytest.raises(ConfigError, match="must be at least negatives"):
        load(None, ["sampling.max_rank=5"])
