"""A synthetic local-life world on real towns: items in districts, cities and provinces, with brands and prices.

Districts are the gazetteer's places around a metropolis. An item scatters log-normally around its district's centre,
so neighbouring districts overlap and coordinates alone do not tell them apart; names, brands, categories and prices
do not give the place away. Every town is a function of (seed, town) alone, so the world streams at any size.
"""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from lgsid_ray.arrays import Bool, Float64, Int64
from lgsid_ray.artifacts import Items
from lgsid_ray.catalog.gazetteer import CITY_POPULATION, Gazetteer, gazetteer
from lgsid_ray.catalog.vocabulary import (
    CATEGORIES,
    FIRST,
    NATIONAL_CHAINS_PER_CATEGORY,
    REGIONAL_CHAINS_PER_PROVINCE,
    SECOND,
)
from lgsid_ray.config.catalogue import WorldSource
from lgsid_ray.errors import ConfigError
from lgsid_ray.geo.distance import haversine_km, km_to_chord, unit_xyz

DISTRICTS_PER_METRO = 5
DISTRICT_POPULATION = 2_000
METRO_RADIUS_KM = 20.0
SCATTER_KM = 2.0
"""Median distance of an item from its district's centre."""
CHAIN_SHARE = 0.35
LEAVES = [(top, leaf, price) for top, leaves in CATEGORIES.items() for leaf, price in leaves.items()]
_KM_PER_DEGREE = 111.195


@dataclass(frozen=True)
class Towns:
    """The districts of a world, metropolis by metropolis.

    Attributes:
        place: (t,) index into the gazetteer. metro: (t,) number of the metropolis, ascending.
        city: (t,) index of the metropolis's largest place. items: (t,) how many items each holds.
    """

    place: Int64
    metro: Int64
    city: Int64
    items: Int64

    def of_metro(self, metro: int) -> Int64:
        """The districts of one metropolis."""
        return np.flatnonzero(self.metro == metro)


def lay_out(source: WorldSource, seed: int) -> Towns:
    """Choose metropolises, their districts, and how many items each holds; the counts add up to `source.items`.

    Raises:
        ConfigError: the countries have too few places for `source.towns`.
    """
    places, rng = gazetteer(), np.random.default_rng((seed, 0))
    here = np.isin(places.countries, source.countries)
    if not here.any():
        raise ConfigError(f"catalogue.source.countries: no place in the gazetteer for {source.countries}")
    metros = -(-source.towns // DISTRICTS_PER_METRO)
    centres = _choose_metros(places, here, metros, rng)
    place: list[int] = []
    metro: list[int] = []
    city: list[int] = []
    free = here.copy()
    for number, centre in enumerate(centres):
        wanted = min(DISTRICTS_PER_METRO, source.towns - len(place))
        for district in _districts(places, free, centre, wanted):
            free[district] = False
            place.append(district)
            metro.append(number)
            city.append(centre)
    if len(place) < min(source.towns, DISTRICTS_PER_METRO):
        raise ConfigError(f"catalogue.source.towns: {source.countries} have too few places for {source.towns} towns")
    # A town's weight grows slower than its population, so that small districts hold enough items to be seen.
    weight = np.sqrt(places.population[place].clip(500, 200_000)) * rng.lognormal(0, 0.3, len(place))
    return Towns(np.array(place), np.array(metro), np.array(city), _apportion(weight, source.items))


def town_items(towns: Towns, town: int, seed: int) -> pa.Table:
    """The items of one town: item_id, name, brand, categories, price, labels and coordinates."""
    places, count = gazetteer(), int(towns.items[town])
    place, city = int(towns.place[town]), int(towns.city[town])
    province = str(places.provinces[city])
    rng = np.random.default_rng((seed, 1, town))
    leaf = rng.integers(len(LEAVES), size=count)
    brand = _brands(leaf, province, seed, rng)
    names = [
        f"{chain} {LEAVES[kind][1]}" if chain else f"{FIRST[a]} {SECOND[b]} {LEAVES[kind][1]}"
        for chain, kind, a, b in zip(
            brand, leaf, rng.integers(len(FIRST), size=count), rng.integers(len(SECOND), size=count), strict=True
        )
    ]
    typical = np.array([price for _, _, price in LEAVES])[leaf]
    lat, lon = scatter(places.lat[place], places.lon[place], rng, count)
    columns = {
        "item_id": [f"t{town:05d}-{row:06d}" for row in range(count)],
        "name": names,
        "brand": brand,
        "category_1": [LEAVES[kind][0] for kind in leaf],
        "category_2": [LEAVES[kind][1] for kind in leaf],
        "price": np.round(typical * rng.lognormal(0, 0.25, count), 0).clip(1),
        "province": [province] * count,
        "city": [str(places.names[city])] * count,
        "district": [str(places.names[place])] * count,
        "lat": lat,
        "lon": lon,
    }
    # Typed, since a town may hold no item.
    return pa.table({name: pa.array(values, Items.schema.field(name).type) for name, values in columns.items()})


def scatter(lat: float, lon: float, rng: np.random.Generator, count: int) -> tuple[Float64, Float64]:
    """(count,) degrees around a centre: log-normal distance with median SCATTER_KM, any direction."""
    radius, angle = rng.lognormal(np.log(SCATTER_KM), 0.6, count), rng.uniform(0, 2 * np.pi, count)
    north = radius * np.cos(angle) / _KM_PER_DEGREE
    east = radius * np.sin(angle) / (_KM_PER_DEGREE * np.cos(np.radians(lat)))
    return np.clip(lat + north, -90, 90), (lon + east + 180) % 360 - 180


def _brands(leaf: Int64, province: str, seed: int, rng: np.random.Generator) -> list[str | None]:
    """A chain's name for CHAIN_SHARE of the items: a national chain of the category, or one of the province."""
    chains = np.random.default_rng((seed, 2))
    national = _chain_names(chains, len(LEAVES) * NATIONAL_CHAINS_PER_CATEGORY)
    regional_rng = np.random.default_rng((seed, 3, *province.encode()))
    regional = _chain_names(regional_rng, REGIONAL_CHAINS_PER_PROVINCE)
    regional_leaf = regional_rng.integers(len(LEAVES), size=REGIONAL_CHAINS_PER_PROVINCE)
    chosen: list[str | None] = []
    for kind, chance, pick in zip(leaf, rng.random(len(leaf)), rng.integers(1 << 30, size=len(leaf)), strict=True):
        locals_ = np.flatnonzero(regional_leaf == kind)
        if chance >= CHAIN_SHARE:
            chosen.append(None)
        elif chance < CHAIN_SHARE / 3 and len(locals_):
            chosen.append(regional[locals_[pick % len(locals_)]])
        else:
            chosen.append(national[kind * NATIONAL_CHAINS_PER_CATEGORY + pick % NATIONAL_CHAINS_PER_CATEGORY])
    return chosen


def _chain_names(rng: np.random.Generator, count: int) -> list[str]:
    pairs = rng.choice(len(FIRST) * len(SECOND), size=count, replace=False)
    return [f"{FIRST[pair // len(SECOND)]} {SECOND[pair % len(SECOND)]}" for pair in pairs]


def _choose_metros(places: Gazetteer, here: Bool, metros: int, rng: np.random.Generator) -> list[int]:
    """Large cities far enough apart, several to a province, drawn by population."""
    candidates = np.flatnonzero(here & (places.population >= CITY_POPULATION))
    weight = places.population[candidates] ** 0.5
    keys = rng.exponential(size=len(candidates)) / weight  # ascending: a draw without replacement by weight
    provinces = places.provinces[candidates]
    order = candidates[np.argsort(keys)]
    # A few provinces, each with several metropolises, rather than one in each of many.
    ranked = list(dict.fromkeys(provinces[np.argsort(keys)]))
    wanted = max(2, round(np.sqrt(metros)))
    chosen: list[int] = []
    for allowed in (set(ranked[:wanted]), set(ranked)):
        for place in order:
            if len(chosen) == metros:
                return chosen
            if places.provinces[place] in allowed and place not in chosen and _apart(places, chosen, place):
                chosen.append(int(place))
    return chosen


def _apart(places: Gazetteer, chosen: list[int], place: int) -> bool:
    if not chosen:
        return True
    return bool(_km(places, chosen, place).min() > 2 * METRO_RADIUS_KM)


def _districts(places: Gazetteer, free: Bool, centre: int, wanted: int) -> list[int]:
    """The metropolis's own place and the free ones of some size nearest to it, in the same province."""
    around = places.tree.query_ball_point(
        unit_xyz(places.lat[centre], places.lon[centre]), float(km_to_chord(METRO_RADIUS_KM))
    )
    others = [
        p
        for p in around
        if free[p]
        and p != centre
        and places.provinces[p] == places.provinces[centre]
        and places.population[p] >= DISTRICT_POPULATION
    ]
    others.sort(key=lambda p: (float(_km(places, centre, p)), p))
    names = {str(places.names[centre])}
    found = [centre]
    for other in others:
        if len(found) < wanted and str(places.names[other]) not in names:
            names.add(str(places.names[other]))
            found.append(other)
    return found[:wanted]


def _km(places: Gazetteer, one: int | list[int], other: int) -> Float64:
    return haversine_km(places.lat[one], places.lon[one], places.lat[other], places.lon[other])


def _apportion(weight: Float64, total: int) -> Int64:
    """Whole numbers in proportion to `weight` that add up to `total` (largest remainders)."""
    exact = weight / weight.sum() * total
    count = np.floor(exact).astype(np.int64)
    rest = np.argsort(-(exact - count), kind="stable")[: total - int(count.sum())]
    count[rest] += 1
    return count
