"""The sampling stage on a real local Ray: exact against brute force, whatever the cells and the parts."""

import numpy as np
import pyarrow as pa
import pytest

from lgsid_ray.artifacts import Items
from lgsid_ray.config import RunConfig
from lgsid_ray.config.sampling import SamplingConfig
from lgsid_ray.errors import InputError
from lgsid_ray.execution.storage import StageDir
from lgsid_ray.geo import layout
from lgsid_ray.geo.distance import haversine_km
from lgsid_ray.sampling.stage import sample

pytestmark = pytest.mark.usefixtures("ray_local")


def write_catalogue(home, lat, lon, split, parts=3):
    """A catalogue stage's items with the columns that sampling reads; the others are null."""
    n = len(lat)
    columns = {
        "item_index": np.arange(n),
        "item_id": [f"i{k}" for k in range(n)],
        "name": ["x"] * n,
        "lat": lat,
        "lon": lon,
        "split": split,
    }
    whole = pa.table({field.name: pa.array(columns.get(field.name, [None] * n), field.type) for field in Items.schema})
    catalogue = home.child("catalogue")
    size = -(-n // parts)
    for k in range(parts):
        catalogue.write_table(f"items/part-{k:05d}.parquet", whole.slice(k * size, size))
    return catalogue


def towns(rng, n):
    """Clustered points over the antimeridian, a pole and two towns, some of them coinciding."""
    centres = np.array([[10.0, 179.99], [89.95, 0.0], [40.7, -74.0], [-33.9, 151.2]])
    which = rng.integers(0, 4, n)
    lat = np.clip(centres[which, 0] + rng.normal(0, 0.05, n), -90, 90).round(4)
    lon = ((centres[which, 1] + rng.normal(0, 0.05, n) / np.cos(np.radians(lat)) + 180) % 360 - 180).round(4)
    copies = rng.integers(0, n, n // 5)
    lat[copies], lon[copies] = lat[0], lon[0]
    return lat, lon


@pytest.fixture
def scattered(run_uri):
    rng = np.random.default_rng(0)
    lat, lon = towns(rng, 900)
    split = np.where(rng.random(900) < 0.7, "train", "held_random")
    return StageDir(run_uri).make(), lat, lon, split


def run(home, catalogue, name="out", seed=0, **settings):
    config = RunConfig(seed=seed, sampling=SamplingConfig(**{"max_anchors": None, **settings}))
    out = home.child(name).make()
    facts = sample(config, {"catalogue": catalogue}, out)
    table = out.read_table("negatives").sort_by("item_index")
    return facts, table


def test_ranks_equal_brute_force(scattered, monkeypatch):
    home, lat, lon, split = scattered
    monkeypatch.setattr(layout, "CELL_ITEMS", 60)
    facts, table = run(home, write_catalogue(home, lat, lon, split), max_rank=120, negatives=6)
    assert facts["cells"] > 5
    train = np.flatnonzero(split == "train")
    assert table.column("item_index").to_pylist() == train.tolist()
    for row in table.to_pylist():
        a = row["item_index"]
        km = haversine_km(lat[a], lon[a], lat[train], lon[train])
        other = km > 1e-4
        meridian = np.where(np.abs(lat) == 90, 0.0, lon)  # the pole is one point
        distinct = np.unique(np.stack([lat, meridian])[:, train][:, other], axis=1)
        expected = np.sort(haversine_km(lat[a], lon[a], *distinct))[np.array(row["rank"]) - 1]
        np.testing.assert_allclose(row["distance_km"], expected, rtol=1e-4, atol=1e-5)
        negatives = np.array(row["negatives"])
        assert (split[negatives] == "train").all()
        drawn_km = haversine_km(lat[a], lon[a], lat[negatives], lon[negatives])
        np.testing.assert_allclose(row["distance_km"], drawn_km, rtol=1e-4, atol=1e-5)
        assert (drawn_km > 1e-4).all()


def test_result_does_not_depend_on_cells_or_parts(scattered, monkeypatch):
    home, lat, lon, split = scattered
    _, one = run(home, write_catalogue(home, lat, lon, split, parts=1), "one", max_rank=200)
    monkeypatch.setattr(layout, "CELL_ITEMS", 40)
    facts, many = run(home, write_catalogue(home.child("b"), lat, lon, split, parts=7), "many", max_rank=200)
    assert facts["cells"] > 8
    assert one.equals(many)
    _, reseeded = run(home, home.child("catalogue"), "reseeded", seed=1, max_rank=200)
    assert not one.equals(reseeded)


def test_uniform_draws_avoid_the_anchors_point_and_are_near_to_far(scattered, monkeypatch):
    home, lat, lon, split = scattered
    monkeypatch.setattr(layout, "CELL_ITEMS", 100)
    catalogue = write_catalogue(home, lat, lon, split)
    _, table = run(home, catalogue, strategy="uniform", negatives=20)
    train = np.flatnonzero(split == "train")
    drawn = np.array(table.column("negatives").to_pylist())
    km = np.array(table.column("distance_km").to_pylist())
    assert table.column("rank").null_count == len(train)
    assert (np.diff(km, axis=1) >= 0).all()
    anchor = table.column("item_index").to_numpy()
    assert ((lat[drawn] != lat[anchor][:, None]) | (lon[drawn] != lon[anchor][:, None])).all()
    # Marginals: an item at a lonely point is drawn about K times over all anchors.
    counts = np.bincount(drawn.ravel(), minlength=len(lat))
    assert counts[split != "train"].sum() == 0
    lonely = train[(lat[train] != lat[0]) | (lon[train] != lon[0])]
    variance = counts[lonely].var()
    assert 0.7 < variance / counts[lonely].mean() < 1.4


def test_max_anchors_is_a_sub_sample_of_the_full_result(scattered, monkeypatch):
    monkeypatch.setattr(layout, "CELL_ITEMS", 30)  # some cells then have no anchor
    home, lat, lon, split = scattered
    catalogue = write_catalogue(home, lat, lon, split)
    _, full = run(home, catalogue, "full")
    facts, some = run(home, catalogue, "some", max_anchors=12)
    assert facts["anchors"] == some.num_rows == 12
    kept = pa.compute.is_in(full.column("item_index"), some.column("item_index").combine_chunks())
    assert full.filter(kept).equals(some)


def test_finished_parts_are_kept_and_the_rest_is_equal(scattered, monkeypatch):
    home, lat, lon, split = scattered
    monkeypatch.setattr(layout, "CELL_ITEMS", 100)
    catalogue = write_catalogue(home, lat, lon, split)
    facts, whole = run(home, catalogue)
    out = home.child("out")
    parts = out.parts("negatives")
    out.fs.rm(parts[1])
    stamp = out.fs.info(parts[0])["mtime"]
    again, resumed = run(home, catalogue)
    assert out.fs.info(parts[0])["mtime"] == stamp
    assert resumed.equals(whole)
    assert again == facts


def test_few_points_repeat_and_one_point_is_refused(run_uri):
    home = StageDir(run_uri).make()
    three = write_catalogue(home.child("a"), np.array([1.0, 2.0, 4.0]), np.zeros(3), ["train"] * 3, parts=1)
    facts, table = run(home, three, negatives=4)
    assert facts["repeats_ranks"]
    assert table.column("negatives").to_pylist() == [[1, 1, 2, 2], [0, 0, 2, 2], [1, 1, 0, 0]]
    point = write_catalogue(home.child("b"), np.full(5, 10.0), np.full(5, 20.0), ["train"] * 5, parts=1)
    with pytest.raises(InputError, match="one point"):
        run(home, point, "refused")
    held = write_catalogue(home.child("c"), np.arange(5.0), np.zeros(5), ["held_place"] * 5, parts=1)
    with pytest.raises(InputError, match="training split"):
        run(home, held, "refused")
    nowhere = write_catalogue(home.child("d"), [None] * 5, [None] * 5, ["train"] * 5, parts=1)
    with pytest.raises(InputError, match="no coordinates"):
        run(home, nowhere, "refused")


def test_every_field_has_an_effect(scattered):
    home, lat, lon, split = scattered
    catalogue = write_catalogue(home, lat, lon, split)
    _, base = run(home, catalogue, "base")
    changed = {"negatives": 5, "strategy": "uniform", "max_rank": 20, "max_anchors": 9}
    assert set(changed) == set(SamplingConfig.model_fields)
    for field, value in changed.items():
        _, table = run(home, catalogue, field, **{field: value})
        assert not table.equals(base), field
