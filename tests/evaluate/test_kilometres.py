"""Kilometres: how far the retrieved lie, and whether nearer is more alike; against haversine and scipy."""

import numpy as np
import pytest
from scipy.stats import spearmanr

from lgsid_ray.evaluate import kilometres
from lgsid_ray.evaluate.kilometres import Orders, distance_orders, retrieved_km
from lgsid_ray.geo.distance import haversine_km


def degrees(space) -> tuple[np.ndarray, np.ndarray]:
    return np.degrees(np.arcsin(space.xyz[:, 2])), np.degrees(np.arctan2(space.xyz[:, 1], space.xyz[:, 0]))


def orders_of(space, vectors: np.ndarray, queries: np.ndarray) -> dict:
    return distance_orders(Orders.drawn(space.labels, space.xyz, queries, seed=0), lambda items: vectors[items])


def test_the_kilometres_of_what_is_found(space):
    queries, found = np.arange(10), np.arange(50).reshape(10, 5)
    lat, lon = degrees(space)
    expected = haversine_km(lat[queries, None], lon[queries, None], lat[found], lon[found])
    assert np.allclose(retrieved_km(space.xyz, queries, found), expected, atol=1e-3)
    assert retrieved_km(None, queries, found) is None


def test_orders_are_spearmans(space, monkeypatch):
    monkeypatch.setattr(kilometres, "AMONG", 5000)  # so many draws that every item is among them
    lat, lon = degrees(space)
    found = orders_of(space, space.aligned, np.arange(240))
    everywhere, city = [], []
    for query in range(240):
        km = haversine_km(lat, lon, lat[query], lon[query])
        others = np.arange(240) != query
        own = others & (space.labels[:, 1] == space.labels[query, 1])
        for members, told in ((others, everywhere), (own, city)):
            told.append(spearmanr(space.aligned[members] @ space.aligned[query], -km[members]).statistic)
    assert found == {"city": pytest.approx(np.mean(city)), "everywhere": pytest.approx(np.mean(everywhere))}


def test_places_themselves_are_in_order_and_a_catalogue_without_any_tells_none(space):
    assert orders_of(space, space.xyz.astype(np.float32), np.arange(60))["everywhere"] > 0.99
    nowhere = Orders.drawn(space.labels, None, np.arange(60), seed=0)
    assert len(nowhere.index) == 0
    assert distance_orders(nowhere, lambda items: space.aligned[items]) == {"city": None, "everywhere": None}
    alone = np.arange(720).reshape(240, 3)
    found = distance_orders(Orders.drawn(alone, space.xyz, np.arange(60), 0), lambda items: space.aligned[items])
    assert found["city"] is None


def test_the_items_of_orders_are_those_whose_vectors_are_asked_for(space):
    orders, asked = Orders.drawn(space.labels, space.xyz, np.arange(60), seed=0), set()

    def of(items: np.ndarray) -> np.ndarray:
        asked.update(items.tolist())
        return space.aligned[items]

    distance_orders(orders, of)
    assert sorted(asked) == orders.index.tolist()
