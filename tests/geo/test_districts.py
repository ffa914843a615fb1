"""Districts and the draws inside and outside of them."""

import numpy as np
import pyarrow as pa
import pytest

from lgsid_ray.config import load
from lgsid_ray.draws import random_bits
from lgsid_ray.errors import ConfigError
from lgsid_ray.geo.distance import unit_xyz
from lgsid_ray.geo.districts import CITY, DISTRICT, PROVINCE, locate, read_labels
from lgsid_ray.geo.points import group_by_point
from lgsid_ray.preference.hard_negatives import alike_outside, just_outside

DISTRICTS = ["a", "b", "a", "c", "a", None, "b", "a"]
SPLIT = ["train", "train", "held_place", "train", "train", "train", "train", "train"]


@pytest.fixture
def places():
    n = len(DISTRICTS)
    table = pa.table(
        {
            "lat": np.arange(n) * 1.0,
            "lon": np.zeros(n),
            "split": SPLIT,
            "province": ["p"] * n,
            "city": ["x"] * 6 + ["y"] * 2,  # district a of city y is another location than a of x
            "district": pa.array(DISTRICTS, pa.string()),
        }
    )
    return locate([read_labels(table.slice(0, 3)), read_labels(table.slice(3))])


def test_locations_are_province_city_and_district(places):
    groups = [places.members[places.starts[k] : places.starts[k + 1]].tolist() for k in range(len(places.sizes))]
    assert sorted(groups) == [[0, 4], [1], [3], [5], [6], [7]]
    assert places.code[2] == -1
    mean = unit_xyz([0.0, 4.0], [0.0, 0.0]).mean(axis=0)
    np.testing.assert_allclose(places.centre[places.code[0]], mean, atol=1e-12)


def test_draws_stay_inside_and_outside(places):
    items = np.repeat(np.array([0, 1, 4]), 2000)
    bits = random_bits(0, "t", np.arange(len(items)))
    inside, outside = places.inside(items, bits), places.outside(items, bits)
    assert set(inside[items == 0]) == {4}
    assert set(inside[items == 4]) == {0}
    assert set(inside[items == 1]) == {-1}
    assert (places.code[outside] != places.code[items]).all()
    assert sorted(set(outside[items == 0])) == [1, 3, 5, 6, 7]
    np.testing.assert_allclose(np.bincount(outside[items == 0])[[1, 3, 5, 6, 7]] / 2000, 0.2, atol=0.04)


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
    places = locate([read_labels(table)])
    items = np.repeat(np.arange(7), 300)
    bits = random_bits(0, "t", np.arange(len(items)))
    for level, key in ((PROVINCE, "ppppqqq"), (CITY, "0011223")):
        inside, outside = places.inside(items, bits, level), places.outside(items, bits, level)
        for item in range(7):
            mates = {other for other in range(7) if key[other] == key[item] and other != item}
            assert set(inside[items == item]) == (mates or {-1})
            assert set(outside[items == item]) == set(range(7)) - mates - {item}
    assert places.contrast(np.arange(7), np.full(7, PROVINCE)).tolist() == [PROVINCE] * 7
    one = locate([read_labels(table.slice(0, 4))])
    assert one.contrast(np.arange(4), np.full(4, PROVINCE)).tolist() == [DISTRICT] * 4


def test_just_outside_passes_over_the_own_location(places):
    near = group_by_point(places.key[[0, 1, 3, 4]], np.array([0, 1, 3, 4]))
    neighbours = np.array([[3, 1, 2]] * 500)  # of item 0: item 4 (its own location), then 1, then 3
    bits = np.stack([random_bits(0, "p", np.arange(500)), random_bits(0, "i", np.arange(500))], axis=1)
    assert set(just_outside(np.zeros(500, int), neighbours, near, places, bits)) == {1, 3}
    # Nothing else among the neighbours: the location whose centre is nearest (item 1 at 1 degree, or 3 at 3).
    only_own = just_outside(np.zeros(500, int), neighbours[:, :1], near, places, bits)
    assert set(only_own) in ({1}, {3})


def test_alike_outside_prefers_resemblance(places):
    anchors, pool = np.array([0, 1]), np.array([0, 1, 3, 4, 5])
    vectors = np.eye(3, dtype=np.float32)[[0, 1, 2, 0, 0]]
    found = alike_outside(anchors, vectors[:2], pool[[3]], vectors[[3]], places, random_bits(0, "a", anchors))
    assert found.tolist() == [-1, 4]  # 4 lies in the location of 0


def test_shares_must_fit():
    with pytest.raises(ConfigError, match="must not exceed 1"):
        load(None, ["preference.hard=0.7", "preference.content=0.5"])
    with pytest.raises(ConfigError, match="must be at least negatives"):
        load(None, ["sampling.max_rank=5"])
