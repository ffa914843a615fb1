"""Labels for points that have none."""

import numpy as np
import pandas as pd
import pytest

from lgsid_ray.catalog.gazetteer import CITY_POPULATION, gazetteer
from lgsid_ray.geo.distance import haversine_km


@pytest.mark.parametrize(
    ("lat", "lon", "province", "city"),
    [
        (30.2672, -97.7431, "Texas", "Austin"),
        (34.0522, -118.2437, "California", "Los Angeles"),
        (47.6062, -122.3321, "Washington", "Seattle"),
        (48.1372, 11.5755, "DE-02", "Munich"),
    ],
)
def test_city_centres_are_found(lat: float, lon: float, province: str, city: str) -> None:
    places = gazetteer()
    nearest = int(places.nearest([lat], [lon])[0])
    assert places.provinces[nearest] == province
    assert places.names[places.city[nearest]] == city


def test_nearest_agrees_with_every_distance_also_across_the_date_line() -> None:
    places = gazetteer()
    lat, lon = np.array([-18.0, 52.5, -89.0, 64.8]), np.array([179.99, 13.4, 0.0, -179.9])
    for point, found in enumerate(places.nearest(lat, lon)):
        distances = haversine_km(lat[point], lon[point], places.lat, places.lon)
        assert distances[found] == pytest.approx(distances.min(), abs=1e-6)


def test_the_city_of_a_place_is_large_and_of_its_province_where_there_is_one() -> None:
    places = gazetteer()
    large = places.population >= CITY_POPULATION
    assert (places.city[large] == np.flatnonzero(large)).all()
    assert large[places.city].all()
    served = pd.Series(places.provinces).isin(set(places.provinces[large])).to_numpy()
    assert (places.provinces[places.city] == places.provinces)[served].all()
