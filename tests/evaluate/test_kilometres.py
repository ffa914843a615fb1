"""Kilometres: how far the retrieved lie, and whether nearer is more alike; against haversine and scipy."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import spearmanr

from lgsid_ray.evaluate import kilometres
from lgsid_ray.evaluate.kilometres import distance_orders, retrieved_km
from lgsid_ray.geo.distance import haversine_km


def degrees(space) -> tuple[np.ndarray, np.ndarray]:
    return np.degrees(np.arcsin(space.xyz[:, 2])), np.degrees(np.arctan2(space.xyz[:, 1], space.xyz[:, 0]))


def test_the_kilometres_of_what_is_found(space):
    queries, found = np.arange(10), np.arange(50).reshape(10, 5)
    lat, lon = degrees(space)
    expected = haversine_km(lat[queries, None], lon[queries, None], lat[found], lon[found])
    assert np.allclose(retrieved_km(space, queries, found), expected, atol=1e-3)
    assert retrieved_km(replace(space, xyz=None), queries, found) is None


def test_orders_are_spearmans(space, monkeypatch):
    monkeypatch.setattr(kilometres, "AMONG", 5000)  # so many draws that every item is among them
    lat, lon = degrees(space)
    found = distance_orders(space, space.aligned, np.arange(240), seed=0)
    everywhere, city = [], []
    for query in range(240):
        km = haversine_km(lat, lon, lat[query], lon[query])
        others = np.arange(240) != query
        own = others & (space.labels[:, 1] == space.labels[query, 1])
        for members, told in ((others, everywhere), (own, city)):
            told.append(spearmanr(space.aligned[members] @ space.aligned[query], -km[members]).statistic)
    assert found == {"city": pytest.approx(np.mean(city)), "everywhere": pytest.approx(np.mean(everywhere))}


def test_places_themselves_are_in_order_and_a_catalogue_without_any_tells_none(space):
    placed = distance_orders(space, space.xyz.astype(np.float32), np.arange(60), seed=0)
    assert placed["everywhere"] > 0.99
    assert distance_orders(replace(space, xyz=None), space.aligned, np.arange(60), 0) == {
        "city": None,
        "everywhere": None,
    }
    alone = replace(space, labels=np.arange(720).reshape(240, 3))
    assert distance_orders(alone, space.aligned, np.arange(60), 0)["city"] is None
