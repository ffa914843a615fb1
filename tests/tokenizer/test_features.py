"""Composite features (Eq 9): the size of their blocks, what an ID becomes, and the sphere."""

from typing import Any

import numpy as np
import pyarrow as pa
import pygeohash
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lgsid_ray.config.tokenizer import FeatureConfig
from lgsid_ray.tokenizer.features import COLUMNS, Moments, Transform, blocks, geohashes, moments, raw_features

IDS = ("province", "city", "district", "category_1", "category_2", "brand")
WEIGHTED = {"admin": 1.5, "geo": 2.0, "category": 0.4, "brand": 0.1}


def table(**columns: list[Any]) -> pa.Table:
    """Items of which only some columns differ."""
    count = len(next(iter(columns.values())))
    default: dict[str, list[Any]] = {
        **{name: ["x"] * count for name in IDS},
        "lat": [0.0] * count,
        "lon": [0.0] * count,
    }
    types = [pa.float64() if name in ("lat", "lon") else pa.string() for name in COLUMNS]
    merged = {**default, **columns}
    return pa.table([pa.array(merged[n], t) for n, t in zip(COLUMNS, types, strict=True)], names=list(COLUMNS))


def varied(count: int, seed: int = 0) -> pa.Table:
    rng = np.random.default_rng(seed)
    ids = {name: [f"{name}{i}" if i else None for i in rng.integers(0, 9, count)] for name in IDS}
    lat, lon = rng.uniform(-60, 60, count), rng.uniform(-180, 180, count)
    return table(**ids, lat=lat.tolist(), lon=lon.tolist())


def standardise(raw: np.ndarray, config: FeatureConfig) -> np.ndarray:
    """By the rows' own moments."""
    return Transform(config, 0, moments(raw)).standardise(raw)


def spans(config: FeatureConfig) -> dict[str, slice]:
    ends = np.cumsum([width for _, width in blocks(config)])
    starts = [0, *ends[:-1]]
    return {name: slice(a, b) for name, a, b in zip(WEIGHTED, starts, ends, strict=True)}


def id_columns(items: pa.Table, config: FeatureConfig, seed: int = 0) -> dict[str, np.ndarray]:
    """Raw columns of each ID."""
    width, raw = (config.projection if config.ids == "projected" else 1), raw_features(items, config, seed)
    raw = np.delete(raw, np.arange(3 * width, 3 * width + 3), axis=1)
    return {name: raw[:, place * width : (place + 1) * width] for place, name in enumerate(IDS)}


@pytest.mark.parametrize("ids", ["projected", "scaled"])
def test_blocks_are_centred_and_their_mean_squared_norm_is_the_squared_weight(ids: str) -> None:
    config = FeatureConfig(ids=ids, projection=5, **WEIGHTED)
    raw = raw_features(varied(300), config, 0)
    found = standardise(raw, config)
    assert found.dtype == np.float32
    assert found.shape == (300, sum(width for _, width in blocks(config)))
    np.testing.assert_allclose(found.mean(axis=0), 0, atol=1e-6)
    for name, columns in spans(config).items():
        assert np.square(found[:, columns]).sum(axis=1).mean() == pytest.approx(WEIGHTED[name] ** 2, rel=1e-4), name


def test_moments_add_up_over_shards() -> None:
    config = FeatureConfig()
    items = varied(200)
    raw = raw_features(items, config, 0)
    parts = [raw_features(items.slice(start, 60), config, 0) for start in range(0, 200, 60)]
    assert np.array_equal(np.concatenate(parts), raw)  # a row's features are its own
    whole: Moments = moments(raw)
    total: Moments = np.sum([moments(part) for part in parts])
    assert total.count == whole.count == 200
    np.testing.assert_allclose(total.total, whole.total, atol=1e-10)
    np.testing.assert_allclose(total.square, whole.square, rtol=1e-12)
    np.testing.assert_allclose(whole.square / 200 - (whole.total / 200) ** 2, raw.astype(float).var(axis=0), atol=1e-12)


@pytest.mark.parametrize("off", WEIGHTED)
def test_weight_zero_removes_a_block_and_no_other(off: str) -> None:
    on, without = FeatureConfig(**WEIGHTED), FeatureConfig(**(WEIGHTED | {off: 0.0}))
    raw = raw_features(varied(50), on, 0)
    with_it, found = standardise(raw, on), standardise(raw, without)
    for name, columns in spans(on).items():
        assert np.array_equal(found[:, columns], with_it[:, columns] * (name != off)), name


def test_a_block_in_which_all_items_agree_is_zero() -> None:
    config = FeatureConfig(**WEIGHTED)
    raw = raw_features(table(lat=[47.123456] * 40, lon=[8.654321] * 40, brand=["a", "b"] * 20), config, 0)
    found = standardise(raw, config)
    columns = spans(config)
    assert (found[:, columns["geo"]] == 0).all()
    assert (found[:, columns["admin"]] == 0).all()
    assert np.square(found[:, columns["brand"]]).sum(axis=1).mean() == pytest.approx(0.01, rel=1e-4)


def test_a_single_town_still_spreads_its_items() -> None:
    config = FeatureConfig(**WEIGHTED)
    rng = np.random.default_rng(0)
    lat, lon = 47 + 0.01 * rng.standard_normal(100), 8 + 0.01 * rng.standard_normal(100)
    raw = raw_features(table(lat=lat.tolist(), lon=lon.tolist()), config, 0)
    found = standardise(raw, config)[:, spans(config)["geo"]]
    assert np.square(found).sum(axis=1).mean() == pytest.approx(4.0, rel=1e-3)


@pytest.mark.parametrize("ids", ["projected", "scaled"])
@pytest.mark.parametrize("name", IDS)
@pytest.mark.parametrize("first", [0, 1])
def test_a_null_id_is_the_zero_vector(ids: str, name: str, first: int) -> None:
    config = FeatureConfig(ids=ids, projection=4)
    values: list[Any] = [None, "x", ""]
    found = id_columns(table(**{name: values[first:] + values[:first]}), config)[name]
    null = np.array([value != "x" for value in values[first:] + values[:first]])
    assert (found[null] == 0).all()
    assert (found[~null] != 0).all()


def test_a_known_district_of_an_unknown_city_is_unknown() -> None:
    found = id_columns(table(city=[None, "a"], district=["a", "a"]), FeatureConfig())
    assert (found["city"][0] == 0).all()
    assert (found["district"][0] == 0).all()
    assert (found["district"][1] != 0).all()


def test_the_same_name_in_another_city_is_another_place() -> None:
    config = FeatureConfig()
    items = table(city=["a", "b", "a"], district=["mitte", "mitte", "mitte"], brand=["q"] * 3, category_1=["q"] * 3)
    found = id_columns(items, config)
    assert np.array_equal(found["district"][0], found["district"][2])
    assert not np.allclose(found["district"][0], found["district"][1])
    assert np.array_equal(found["province"][0], found["province"][1])
    assert np.array_equal(found["brand"][0], found["brand"][1])
    # The same word in two columns is two IDs.
    assert not np.allclose(found["brand"][0], found["category_1"][0])


@pytest.mark.parametrize("lat", [0.0, 64.0, -17.0])
def test_coordinates_are_continuous_at_the_antimeridian_and_the_poles(lat: float) -> None:
    places = table(lat=[lat, lat, 89.99999, 89.99999], lon=[179.99999, -179.99999, 10.0, -170.0])
    config = FeatureConfig()
    geo = raw_features(places, config, 0)[:, spans(config)["geo"]]
    np.testing.assert_allclose(np.linalg.norm(geo, axis=1), 1, rtol=1e-6)
    np.testing.assert_allclose(geo[0], geo[1], atol=1e-6)
    np.testing.assert_allclose(geo[2], geo[3], atol=1e-6)


def test_projected_ids_are_all_equally_far_apart_and_scaled_ones_invent_an_order() -> None:
    brands = table(brand=[f"b{row}" for row in range(30)])
    projected = id_columns(brands, FeatureConfig(projection=1000))["brand"]
    apart = np.square(projected[:, None] - projected[None]).sum(axis=2)[np.triu_indices(30, 1)] / 1000
    assert apart == pytest.approx(np.full(435, 2.0), abs=0.4)  # one-hot vectors: 2 exactly
    np.testing.assert_allclose(np.square(projected).mean(axis=1), 1, atol=0.15)
    scaled = id_columns(brands, FeatureConfig(ids="scaled"))["brand"]
    assert scaled.shape == (30, 1)
    assert ((scaled > 0) & (scaled < 1)).all()
    assert len(np.unique(scaled)) == 30
    between = np.abs(scaled - scaled.T)[np.triu_indices(30, 1)]
    assert between.max() > 20 * between.min()


def test_projections_depend_on_the_seed_and_scaled_ids_do_not() -> None:
    items = table(brand=["a", "b"])
    for ids, same in (("projected", False), ("scaled", True)):
        a, b = (id_columns(items, FeatureConfig(ids=ids), seed)["brand"] for seed in (0, 1))
        assert np.array_equal(a, b) == same


PLACES = st.tuples(st.floats(-90, 89.999), st.floats(-180, 179.999))
BASE_32 = "0123456789bcdefghjkmnpqrstuvwxyz"


def plain_geohash(lat: float, lon: float, precision: int) -> str:
    """By the definition: halve longitude and latitude in turns, five bits a letter."""
    spans, number = [[-180.0, 180.0], [-90.0, 90.0]], 0
    for bit in range(5 * precision):
        span, value = spans[bit % 2], (lon, lat)[bit % 2]
        middle = sum(span) / 2
        number = 2 * number + (value >= middle)
        span[value < middle] = middle
    return "".join(BASE_32[number >> 5 * place & 31] for place in reversed(range(precision)))


@given(st.lists(PLACES, min_size=1, max_size=20), st.integers(1, 12))
def test_geohashes_are_pygeohashs_and_those_of_the_definition(
    places: list[tuple[float, float]], precision: int
) -> None:
    lat, lon = map(list, zip(*places, strict=True))
    found = geohashes(table(lat=lat, lon=lon), precision).to_pylist()
    assert found == [pygeohash.encode(*place, precision) for place in places]
    assert found == [plain_geohash(*place, precision) for place in places]


def test_near_cells_share_the_features_of_their_common_prefix() -> None:
    config = FeatureConfig(position="geohash", geohash_precision=5, projection=4)
    geo = raw_features(table(lat=[47.37, 47.37, 37.77], lon=[8.55, 8.50, -122.42]), config, 0)[:, spans(config)["geo"]]
    assert geohashes(table(lat=[47.37, 47.37], lon=[8.55, 8.50]), 5).to_pylist() == ["u0qj6", "u0qj3"]
    same = (geo[:, None] == geo[None]).reshape(3, 3, 5, 4).all(axis=3).sum(axis=2)
    assert same.tolist() == [[5, 4, 0], [4, 5, 0], [0, 0, 5]]


def test_a_longer_geohash_is_more_columns_and_coordinates_have_no_say_beyond_it() -> None:
    for precision in (1, 7):
        config = FeatureConfig(position="geohash", geohash_precision=precision, projection=2)
        raw = raw_features(table(lat=[47.37, 47.370001], lon=[8.55, 8.550001]), config, 0)
        assert raw.shape[1] == sum(width for _, width in blocks(config)) == 2 * (3 + precision + 3)
        assert np.array_equal(raw[0], raw[1])


@pytest.mark.parametrize("position", ["xyz", "geohash"])
def test_without_coordinates_the_geo_block_is_zero(position: str) -> None:
    config = FeatureConfig(position=position)
    nowhere = table(lat=[None] * 3, lon=[None] * 3, brand=["a", "b", "c"])
    raw, columns = raw_features(nowhere, config, 0), spans(config)
    assert (raw[:, columns["geo"]] == 0).all()
    found = standardise(raw, config)
    assert (found[:, columns["geo"]] == 0).all()
    assert (found[:, columns["brand"]] != 0).any()


def test_items_are_located_by_coordinates_or_by_a_hierarchy_of_any_depth() -> None:
    nothing: dict[str, list[Any]] = {
        "lat": [None],
        "lon": [None],
        "province": [None],
        "city": [None],
        "district": [None],
    }
    given: dict[str, dict[str, list[Any]]] = {
        "nothing": {},
        "coordinates": {"lat": [0.0], "lon": [0.0]},
        "a tree": {"province": ["books"], "city": ["novels"]},
        "its root": {"province": ["books"]},
    }
    config = FeatureConfig()
    raw = {name: raw_features(table(**(nothing | columns)), config, 0) for name, columns in given.items()}
    located = {name: Transform(config, 0, moments(rows)).located for name, rows in raw.items()}
    assert located == {"nothing": False, "coordinates": True, "a tree": True, "its root": True}
