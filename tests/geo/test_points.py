"""Places: one identity per point, whatever its spelling."""

import numpy as np

from lgsid_ray.geo.points import group_by_point, point_degrees, point_keys, point_xyz


def test_spellings_of_a_point_are_one_key():
    assert point_keys(10.0, 180.0) == point_keys(10.0, -180.0)
    assert point_keys(90.0, 5.0) == point_keys(90.0, -120.0)
    assert point_keys(-90.0, 5.0) == point_keys(-90.0, 0.0)
    assert point_keys(0.0, 0.0) == point_keys(-0.0, -0.0)
    assert point_keys(10.0, 20.0) != point_keys(10.0, 20.000001)
    assert point_keys(90.0, 0.0) != point_keys(-90.0, 0.0)


def test_degrees_round_trip():
    rng = np.random.default_rng(0)
    lat, lon = rng.uniform(-89.9, 89.9, 1000), rng.uniform(-180, 179.9, 1000)
    back = point_degrees(point_keys(lat, lon))
    np.testing.assert_allclose(back, [lat, lon], atol=6e-8)
    np.testing.assert_allclose(np.linalg.norm(point_xyz(point_keys(lat, lon)), axis=1), 1)


def test_gather_groups_items_by_point():
    keys, items = np.array([7, 3, 7, 3, 5]), np.array([4, 9, 1, 2, 8])
    group = group_by_point(keys, items)
    assert group.keys.tolist() == [3, 5, 7]
    assert group.sizes.tolist() == [2, 1, 2]
    assert group.items.tolist() == [2, 9, 8, 1, 4]
