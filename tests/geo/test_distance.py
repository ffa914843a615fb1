"""Great-circle distance against published city distances and against chords."""

import numpy as np
import pytest

from lgsid_ray.geo.distance import EARTH_RADIUS_KM, chord_to_km, haversine_km, km_to_chord, unit_xyz

CITIES = {
    "Beijing": (39.9042, 116.4074),
    "Shanghai": (31.2304, 121.4737),
    "London": (51.5074, -0.1278),
    "New York": (40.7128, -74.0060),
    "Sydney": (-33.8688, 151.2093),
    "Honolulu": (21.3069, -157.8583),
}


@pytest.mark.parametrize(
    ("one", "two", "km"),
    [("Beijing", "Shanghai", 1067), ("London", "New York", 5570), ("Sydney", "Honolulu", 8156)],
)
def test_city_distances(one, two, km):
    assert haversine_km(*CITIES[one], *CITIES[two]) == pytest.approx(km, rel=0.003)


def test_antimeridian_and_poles():
    degree = np.pi * EARTH_RADIUS_KM / 180
    assert haversine_km(0, 179.5, 0, -179.5) == pytest.approx(degree)
    assert haversine_km(90, 10, 90, -170) == pytest.approx(0, abs=1e-9)
    assert haversine_km(89, 0, 89, 180) == pytest.approx(2 * degree)
    assert haversine_km(0, 0, 0, 180) == pytest.approx(180 * degree)


def test_chords_agree_with_haversine():
    rng = np.random.default_rng(0)
    lat, lon = np.degrees(np.arcsin(rng.uniform(-1, 1, (2, 500)))), rng.uniform(-180, 180, (2, 500))
    lat[1, :250], lon[1, :250] = lat[0, :250] + 1e-4, lon[0, :250]  # some metres apart
    chord = np.linalg.norm(unit_xyz(lat[0], lon[0]) - unit_xyz(lat[1], lon[1]), axis=-1)
    km = haversine_km(lat[0], lon[0], lat[1], lon[1])
    np.testing.assert_allclose(chord_to_km(chord), km, rtol=1e-6)
    np.testing.assert_allclose(km_to_chord(km), chord, rtol=1e-6)
