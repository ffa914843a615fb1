"""NMI, AMI and the geography of SIDs on known answers."""

import numpy as np
import pytest
from sklearn.metrics import adjusted_mutual_info_score

from lgsid_ray.evaluate.clustering import Sample
from lgsid_ray.evaluate.clustering import agreement as agreement_of
from lgsid_ray.evaluate.sid_geography import sid_geography
from lgsid_ray.evaluate.sid_neighbours import sid_neighbours
from lgsid_ray.evaluate.space import Space
from lgsid_ray.geo.distance import haversine_km, unit_xyz
from tests.evaluate.conftest import corpus_of


def agreement(vectors: np.ndarray, labels: np.ndarray, clusters: int, items: int, seed: int) -> list[dict]:
    samples = [Sample.drawn(column, items, seed) for column in labels.T]
    return agreement_of(lambda index: vectors[index], samples, clusters, seed)


def test_clusters_equal_to_the_labels_agree_fully():
    label = np.repeat(np.arange(5), 40)
    rows = agreement(np.eye(5, dtype=np.float32)[label], label[:, None] * [1, 1, 1], 512, 10_000, 0)
    assert [row["ami"] for row in rows] == pytest.approx([1.0] * 3)
    assert [row["clusters"] for row in rows] == [5] * 3


def test_clusters_that_tell_nothing_have_no_adjusted_information():
    rng = np.random.default_rng(0)
    label = rng.integers(0, 30, 600)
    row = agreement(rng.normal(size=(600, 8)).astype(np.float32), label[:, None] * [1, 1, 1], 512, 10_000, 0)[2]
    assert row["ami"] == pytest.approx(0.0, abs=0.03)
    assert row["nmi"] > 0.1


def test_caps_are_kept_and_hopeless_labels_have_a_reason():
    vectors = np.random.default_rng(0).normal(size=(60, 4)).astype(np.float32)
    labels = np.stack([np.zeros(60, int), np.arange(60) % 20, np.arange(60)], axis=1)
    rows = agreement(vectors, labels, clusters=6, items=30, seed=0)
    assert rows[0]["nmi"] is None
    assert "reason" in rows[0]
    assert rows[1]["clusters"] == 6
    assert rows[1]["items"] == 30
    assert rows[2]["ami"] is None


def test_sid_geography_counts_pure_clusters_and_kilometres():
    # Token 0: three items of one city, at 0, 1 and 2 degrees on the equator. Token 1: two provinces.
    tokens = np.array([[0, 0], [0, 0], [0, 1], [1, 0], [1, 1]])
    labels = np.array([[0, 0, 0], [0, 0, 0], [0, 0, 1], [0, 1, 2], [1, 2, 3]])
    xyz = unit_xyz([0, 0, 0, 0, 0], [0, 1, 2, 50, 54])
    first, second = sid_geography(tokens, labels, xyz)
    assert first["clusters"] == 2
    assert first["one_province"] == first["one_city"] == 0.5
    assert first["one_district"] == 0.0
    assert first["items_one_city"] == pytest.approx(3 / 5)
    assert first["majority_district"] == pytest.approx(3 / 5)
    degree = float(haversine_km(0, 0, 0, 1))
    assert first["radius_km"] == pytest.approx((1 * degree + 2 * degree) / 2, rel=1e-6)
    assert first["radius_km_items"] == pytest.approx(degree, rel=1e-6)
    assert second["clusters"] == 4
    assert second["one_district"] == 1.0
    assert first["bits"] == pytest.approx(-(0.6 * np.log2(0.6) + 0.4 * np.log2(0.4)))
    assert first["ami_city"] == pytest.approx(adjusted_mutual_info_score([0, 0, 0, 1, 2], [0, 0, 0, 1, 1]))


def test_prefixes_that_tell_the_label_agree_with_it_and_random_ones_do_not():
    label, noise = np.arange(6000) % 30, np.random.default_rng(0).integers(0, 30, 6000)
    labels = np.stack([label % 3, label, label], axis=1)
    first, _ = sid_geography(np.stack([label, noise], axis=1), labels, None)
    assert first["ami_city"] == pytest.approx(1.0)
    random, _ = sid_geography(np.stack([noise, label], axis=1), labels, None)
    assert random["ami_city"] == pytest.approx(0.0, abs=0.02)


def test_neighbours_that_share_a_prefix_are_counted_beside_what_chance_would_bring():
    # Two heaps of 12 far apart: the ten nearest of an item are in its heap. Token 1 names the heap, token 2 its half.
    rng = np.random.default_rng(0)
    vectors = np.repeat([[1.0, 0, 0], [0, 1.0, 0]], 12, axis=0) + rng.normal(0, 0.05, (24, 3))
    vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    tokens = np.stack([np.arange(24) // 12, np.arange(24) % 2], axis=1)
    queries = np.array([0, 5, 23])
    corpus = corpus_of(Space(np.arange(24), np.zeros((24, 3), np.int64), vectors))
    first, second = sid_neighbours(tokens, corpus, queries)
    assert (first["space"], first["prefix"], first["k"]) == ("origin", 1, 10)
    assert first["recall"] == 1.0
    assert first["chance"] == pytest.approx(11 / 23)
    nearest = np.argsort(-(vectors[queries] @ vectors.T), axis=1)[:, 1:11]
    shared = (tokens[nearest] == tokens[queries][:, None]).all(axis=2)
    assert second["recall"] == pytest.approx(shared.mean())
    assert second["chance"] == pytest.approx(5 / 23)


def test_unknown_labels_have_nothing_in_common():
    labels = np.array([[0, 0, 0], [0, 0, 0], [0, -1, -1], [0, -1, -1]])
    row = sid_geography(np.array([[0], [0], [1], [1]]), labels, unit_xyz([0] * 4, [0] * 4))[0]
    assert row["one_province"] == 1.0
    assert row["ami_province"] is None  # there is but one
    assert row["one_city"] == row["items_one_city"] == row["majority_city"] == 0.5
    assert row["radius_km"] == pytest.approx(0.0)
    assert "reason" not in row


def test_what_a_catalogue_does_not_have_is_none_with_a_reason():
    labels = np.array([[0, -1, -1], [1, -1, -1]])
    row = sid_geography(np.zeros((2, 1), int), labels, None)[0]
    assert row["one_province"] == 0.0
    for name in ("one_city", "items_one_district", "majority_district", "radius_km", "radius_km_items"):
        assert row[name] is None
    assert row["reason"] == "no item has city or district or coordinates"
