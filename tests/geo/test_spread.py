"""Centres, distances and medians of groups against loops and known answers."""

import numpy as np
import pytest

from lgsid_ray.geo.distance import haversine_km, unit_xyz
from lgsid_ray.geo.spread import centres, degrees, distances_km, group_medians, point_sums


def test_centres_and_distances_on_known_answers() -> None:
    # Across the antimeridian; on the equator; a group without points.
    lat, lon, group = np.array([10.0, 10, 0, 0, 0]), np.array([179.0, -179, 1, 2, 6]), np.array([0, 0, 2, 2, 2])
    xyz = unit_xyz(lat, lon)
    centre = centres(point_sums(group, xyz, 3))
    north, east = degrees(centre)
    assert np.abs(east[0]) == pytest.approx(180)
    assert north[0] == pytest.approx(10, abs=0.01)
    assert (north[2], east[2]) == pytest.approx((0, 3), abs=0.01)
    assert np.isnan([north[1], east[1]]).all()
    found = distances_km(group, xyz, centre)
    expected = [haversine_km(a, b, north[g], east[g]) for a, b, g in zip(lat, lon, group, strict=True)]
    assert found == pytest.approx(np.array(expected), rel=1e-6)


def test_sums_add_up_over_parts() -> None:
    rng = np.random.default_rng(0)
    group, xyz = rng.integers(0, 4, 50), unit_xyz(rng.uniform(-80, 80, 50), rng.uniform(-180, 180, 50))
    parts = point_sums(group[:20], xyz[:20], 5) + point_sums(group[20:], xyz[20:], 5)
    assert parts == pytest.approx(point_sums(group, xyz, 5))


@pytest.mark.parametrize("count", [1, 7, 40])
def test_medians_against_numpy(count: int) -> None:
    rng = np.random.default_rng(count)
    group, values = rng.integers(0, count, 60), rng.normal(size=60).astype(np.float32)
    found = group_medians(group, values, count + 1)
    for number in range(count + 1):
        mine = values[group == number].astype(float)
        assert found[number] == pytest.approx(np.median(mine)) if len(mine) else np.isnan(found[number])
