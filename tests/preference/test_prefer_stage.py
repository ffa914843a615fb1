"""The preference stage on a real local Ray: every triple keeps its promises, co-visits equal a brute-force count."""

from collections import Counter
from itertools import combinations

import numpy as np
import pyarrow as pa
import pytest

from lgsid_ray.artifacts import Embeddings, Interactions, Items
from lgsid_ray.artifacts.embeddings import column
from lgsid_ray.config import RunConfig
from lgsid_ray.config.preference import PreferenceConfig
from lgsid_ray.execution.storage import StageDir
from lgsid_ray.geo import layout
from lgsid_ray.geo.distance import haversine_km
from lgsid_ray.preference.stage import prefer

pytestmark = pytest.mark.usefixtures("ray_local")

ITEMS, USERS, WIDTH = 400, 120, 8


def write(table, columns, parts):
    n = len(next(iter(columns.values())))
    whole = pa.table({f.name: pa.array(columns.get(f.name, [None] * n), f.type) for f in table.schema})
    size = -(-n // parts)
    for k in range(parts):
        table.write(whole.slice(k * size, size), f"part-{k:05d}.parquet")


class Data:
    """A small catalogue on a strip of five towns, its log and its embeddings."""

    def __init__(self, home, log=True, towns=5):
        rng = np.random.default_rng(1)
        self.lon = rng.uniform(0, 5, ITEMS).round(2)
        self.lat = rng.uniform(0, 1, ITEMS).round(2)
        self.town = np.minimum(self.lon.astype(int), towns - 1)
        self.split = np.where(rng.random(ITEMS) < 0.8, "train", "held_place")
        self.catalogue, self.embed = home.child("catalogue"), home.child("embed")
        index = np.arange(ITEMS)
        columns = {
            "item_index": index,
            "item_id": [f"i{k}" for k in index],
            "province": [f"p{k // 3}" for k in self.town],
            "city": [f"c{k // 2}" for k in self.town],
            "district": [f"d{k}" for k in self.town],
            "lat": self.lat,
            "lon": self.lon,
            "split": self.split,
        }
        write(Items(self.catalogue), columns, 3)
        vectors = rng.normal(size=(ITEMS, WIDTH)).astype(np.float32)
        self.vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
        columns = {"item_index": index, "item_id": columns["item_id"], "embedding": column(self.vectors)}
        whole = pa.table(columns)
        for k in range(2):
            Embeddings(self.embed).write(whole.slice(200 * k, 200), f"part-{k:05d}.parquet")
        self.log = self.write_log(rng) if log else []

    def write_log(self, rng):
        n = 3000
        log = {
            "user_id": [f"u{k}" for k in rng.integers(0, USERS, n)],
            "item_index": rng.zipf(1.4, n) % ITEMS,
            "timestamp": np.sort(rng.integers(0, 10**6, n)),
            "label": rng.choice([1.0, 0.0, None], n, p=[0.6, 0.2, 0.2]),
            "rank_split": rng.choice(["train", "test"], n, p=[0.9, 0.1]),
            "generate_split": rng.choice(["train", "valid", None], n, p=[0.7, 0.1, 0.2]),
        }
        write(Interactions(self.catalogue), log, 3)
        return [dict(zip(log, row, strict=True)) for row in zip(*log.values(), strict=True)]

    def brute_counts(self, max_history):
        histories = {}
        for event in self.log:
            counts = event["rank_split"] == "train" and event["generate_split"] in ("train", None)
            if counts and event["label"] != 0.0 and self.split[event["item_index"]] == "train":
                histories.setdefault(event["user_id"], []).append(int(event["item_index"]))
        return Counter(
            pair for history in histories.values() for pair in combinations(sorted(set(history[-max_history:])), 2)
        )


def run(data, home, name="out", seed=0, **settings):
    out = home.child(name).make()
    config = RunConfig(seed=seed, preference=PreferenceConfig(**settings))
    facts = prefer(config, {"catalogue": data.catalogue, "embed": data.embed}, out)
    return facts, out.read_table("triples")


@pytest.fixture
def home(run_uri):
    return StageDir(run_uri).make()


def test_triples_keep_their_promises(home, monkeypatch):
    monkeypatch.setattr(layout, "CELL_ITEMS", 60)
    data = Data(home)
    facts, table = run(data, home, triples=900, collaborative=0.3, threshold=1, max_history=12)
    assert table.num_rows == facts["triples"] == 900
    counts = data.brute_counts(12)
    covisited = {pair for pair, count in counts.items() if count > 1}
    assert facts["covisited_pairs"] == len(covisited)
    anchor, positive, negative = (table.column(c).to_numpy() for c in ("anchor", "positive", "negative"))
    for role in (anchor, positive, negative):
        assert (data.split[role] == "train").all()
    assert (data.town[anchor] != data.town[negative]).all()
    assert (anchor != positive).all()
    joint = np.array(table.column("source").to_pylist()) == "collaborative"
    assert joint.sum() == facts["collaborative"] == min(270, 2 * len(covisited))
    pairs = {tuple(sorted(pair)) for pair in zip(anchor[joint].tolist(), positive[joint].tolist(), strict=True)}
    assert pairs <= covisited
    refused = {tuple(sorted(pair)) for pair in zip(anchor.tolist(), negative.tolist(), strict=True)}
    assert not refused & covisited
    near, wide = (np.array(table.column("source").to_pylist()) == name for name in ("near", "wide"))
    assert (data.town[anchor[near]] == data.town[positive[near]]).all()
    assert abs(wide.sum() / (near | wide).sum() - 0.3) < 0.1
    assert facts["wide"] == wide.sum()
    province, city = data.town // 3, data.town // 3 * 10 + data.town // 2
    parts = [(region[anchor] == region[positive]) & (region[anchor] != region[negative]) for region in (province, city)]
    assert (parts[0] | parts[1])[wide].all()
    assert (~parts[0] & parts[1])[wide].any()
    assert (parts[0] & (city[anchor] != city[positive]))[wide].any()
    assert np.bincount(anchor[~joint]).max() <= -(-(~joint).sum() // (data.split == "train").sum())


def test_hard_negatives_are_the_nearest_outside(home):
    data = Data(home, log=False)
    facts, table = run(data, home, triples=200, hard=1.0, content=0.0, wide=0.0)
    assert facts["collaborative"] == 0
    assert facts["collaborative_short"] == 60
    assert facts["hard"] == table.num_rows == 200
    train = np.flatnonzero(data.split == "train")
    for a, n in zip(table.column("anchor").to_pylist(), table.column("negative").to_pylist(), strict=True):
        outside = train[data.town[train] != data.town[a]]
        km = haversine_km(data.lat[a], data.lon[a], data.lat[outside], data.lon[outside])
        nearest = np.unique(np.stack([km.round(6), data.lat[outside], data.lon[outside]]), axis=1)[0][:8]
        assert haversine_km(data.lat[a], data.lon[a], data.lat[n], data.lon[n]) <= nearest[-1] + 1e-5


def test_content_negatives_are_the_most_alike_outside(home):
    data = Data(home, log=False)
    facts, table = run(data, home, triples=150, hard=0.0, content=1.0, wide=0.0)
    assert facts["content"] == table.num_rows == 150
    train = np.flatnonzero(data.split == "train")
    for a, n in zip(table.column("anchor").to_pylist(), table.column("negative").to_pylist(), strict=True):
        outside = train[data.town[train] != data.town[a]]
        best = np.sort(data.vectors[outside] @ data.vectors[a])[-8]
        assert data.vectors[n] @ data.vectors[a] >= best - 1e-6


def test_result_does_not_depend_on_cells(home, monkeypatch):
    data = Data(home)
    _, one = run(data, home, "one", triples=500)
    monkeypatch.setattr(layout, "CELL_ITEMS", 40)
    _, many = run(data, home, "many", triples=500)
    assert one.equals(many)
    _, other = run(data, home, "other", seed=1, triples=500)
    assert not one.equals(other)


def test_far_pairs_are_no_positives_with_max_km(home):
    data = Data(home)
    _, table = run(data, home, triples=300, collaborative=1.0, threshold=1, max_km=50)
    joint = table.filter(pa.compute.equal(table.column("source"), "collaborative"))
    a, p = joint.column("anchor").to_numpy(), joint.column("positive").to_numpy()
    assert len(a) > 0
    assert haversine_km(data.lat[a], data.lon[a], data.lat[p], data.lon[p]).max() <= 50


def test_items_of_an_unknown_district_are_in_no_triple(home):
    data = Data(home)
    whole = Items(data.catalogue).read()
    unknown = np.arange(ITEMS) % 5 == 0
    for level in ("district", "province"):
        labels = pa.array(np.where(unknown, None, whole.column(level).to_numpy()), pa.string())
        Items(data.catalogue).remove()
        Items(data.catalogue).write(whole.set_column(whole.column_names.index(level), level, labels), "p.parquet")
        facts, table = run(data, home, level, triples=700, hard=0.3, content=0.3, neighbour=0.3)
        assert facts["triples"] == 700
        for role in ("anchor", "positive", "negative"):
            assert not unknown[table.column(role).to_numpy()].any()


def test_every_field_has_an_effect(home):
    data = Data(home)
    _, base = run(data, home, "base", triples=300)
    changed = {
        "triples": 301,
        "collaborative": 0.1,
        "hard": 0.1,
        "content": 0.1,
        "neighbour": 0.9,
        "wide": 0.8,
        "threshold": 3,
        "quantile": 0.99,
        "max_km": 30.0,
        "max_history": 4,
    }
    assert set(changed) == set(PreferenceConfig.model_fields)
    for field, value in changed.items():
        _, table = run(data, home, field, **{"triples": 300, field: value})
        assert not table.equals(base), field
