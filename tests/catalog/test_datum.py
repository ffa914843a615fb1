"""Chinese map datums: back and forth, against a published pair, and nothing outside China."""

import numpy as np
import pytest

from lgsid_ray.arrays import Float64
from lgsid_ray.catalog.datum import gcj02_to_bd09, to_wgs84, wgs84_to_gcj02
from lgsid_ray.geo.distance import haversine_km

CITIES = [(39.9042, 116.4074), (31.2304, 121.4737), (22.5431, 114.0579), (43.8256, 87.6168), (20.044, 110.1999)]


def _points() -> tuple[Float64, Float64]:
    rng = np.random.default_rng(0)
    centres = np.array(CITIES)[rng.integers(len(CITIES), size=500)]
    return centres[:, 0] + rng.normal(0, 0.5, 500), centres[:, 1] + rng.normal(0, 0.5, 500)


@pytest.mark.parametrize("datum", ["gcj02", "bd09"])
def test_round_trip_is_exact_to_a_metre(datum: str) -> None:
    lat, lon = _points()
    there = wgs84_to_gcj02(lat, lon)
    there = gcj02_to_bd09(*there) if datum == "bd09" else there
    back = to_wgs84(*there, datum)
    assert haversine_km(lat, lon, *back).max() < 1e-3
    assert haversine_km(lat, lon, *there).min() > 0.05  # the shift itself is far larger


def test_shift_in_beijing_is_the_known_one() -> None:
    # Widely published pair: Tiananmen in WGS-84 and what Chinese maps show for it.
    lat, lon = wgs84_to_gcj02(39.90734, 116.39127)
    assert haversine_km(lat, lon, 39.908743, 116.397513) < 0.01


@pytest.mark.parametrize("datum", ["wgs84", "gcj02", "bd09"])
def test_outside_china_nothing_moves(datum: str) -> None:
    lat, lon = np.array([48.1, -33.9, 40.7, 0.5]), np.array([11.6, 151.2, -74.0, 100.0])
    back = to_wgs84(lat, lon, datum)
    assert np.array_equal(back[0], lat)
    assert np.array_equal(back[1], lon)


def test_wgs84_is_left_alone_inside_china() -> None:
    lat, lon = _points()
    assert np.array_equal(to_wgs84(lat, lon, "wgs84")[0], lat)
