"""The synthetic world: seeded, exact in size, and every town a function of the seed and its number."""

import numpy as np
import pytest

from lgsid_ray.catalog.crowd import START, metro_log, metro_users
from lgsid_ray.catalog.gazetteer import gazetteer
from lgsid_ray.catalog.world import METRO_RADIUS_KM, lay_out, town_items
from lgsid_ray.config.catalogue import WorldSource
from lgsid_ray.errors import ConfigError
from lgsid_ray.geo.distance import haversine_km


@pytest.mark.parametrize("items", [1, 7, 3000, 12_345])
@pytest.mark.parametrize("towns", [1, 7, 60])
def test_the_number_of_items_is_exact(items: int, towns: int) -> None:
    world = lay_out(WorldSource(items=items, towns=towns), 3)
    assert world.items.sum() == items
    assert (world.items >= 0).all()


def test_the_seed_decides() -> None:
    source = WorldSource()
    one, same, other = lay_out(source, 1), lay_out(source, 1), lay_out(source, 2)
    assert one.place.tolist() == same.place.tolist()
    assert town_items(one, 4, 1).equals(town_items(same, 4, 1))
    assert one.place.tolist() != other.place.tolist()


def test_a_town_does_not_depend_on_those_made_before_it() -> None:
    world = lay_out(WorldSource(items=2000), 0)
    alone = town_items(world, 5, 0)
    for town in range(5):
        town_items(world, town, 0)
    assert town_items(world, 5, 0).equals(alone)
    assert len(alone) == world.items[5]


def test_districts_are_distinct_and_near_their_city() -> None:
    places, world = gazetteer(), lay_out(WorldSource(), 0)
    assert len(set(world.place.tolist())) == len(world.place)
    assert (places.provinces[world.place] == places.provinces[world.city]).all()
    km = haversine_km(places.lat[world.place], places.lon[world.place], places.lat[world.city], places.lon[world.city])
    assert km.max() <= METRO_RADIUS_KM + 0.1


def test_items_are_whole_and_lie_around_their_district() -> None:
    places, world = gazetteer(), lay_out(WorldSource(items=5000), 0)
    town = int(np.argmax(world.items))
    items = town_items(world, town, 0).to_pandas()
    assert items["item_id"].is_unique
    assert (items["price"] > 0).all()
    assert items[["name", "category_1", "category_2", "district"]].notna().all(axis=None)
    place = world.place[town]
    km = haversine_km(items["lat"].to_numpy(), items["lon"].to_numpy(), places.lat[place], places.lon[place])
    assert 1.0 < np.median(km) < 4.0


def test_users_click_items_of_the_world_and_impressions_share_their_moment() -> None:
    source = WorldSource(items=600, users=40, events_per_user=10, towns=10)
    world = lay_out(source, 0)
    assert metro_users(source, world).sum() == 40
    known = {key for town in range(len(world.items)) for key in town_items(world, town, 0)["item_id"].to_pylist()}
    log = metro_log(source, world, 0, 0).to_pandas()
    assert metro_log(source, world, 0, 0).to_pandas().equals(log)
    assert set(log["item_id"]) <= known
    assert set(log["label"]) == {0.0, 1.0}
    assert (log["timestamp"] >= START).all()
    shown = log[log["label"] == 0].groupby(["user_id", "timestamp"]).size().index
    clicked = log[log["label"] == 1].groupby(["user_id", "timestamp"]).size().index
    assert shown.isin(clicked).all()


def test_countries_without_places_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"countries.*XX"):
        lay_out(WorldSource(countries=["XX"]), 0)


def test_a_town_without_items_is_an_empty_table_of_the_same_columns() -> None:
    world = lay_out(WorldSource(items=7), 3)
    empty = town_items(world, int(np.flatnonzero(world.items == 0)[0]), 3)
    full = town_items(world, int(np.flatnonzero(world.items > 0)[0]), 3)
    assert len(empty) == 0
    assert empty.schema == full.schema
