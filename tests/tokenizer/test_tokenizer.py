"""A whole tokenizer: encode against the loop of Eq 10-12 and in any batch, round trips of its file, torn files."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load, save

from lgsid_ray.config.tokenizer import FeatureConfig
from lgsid_ray.errors import InputError, StorageError
from lgsid_ray.execution.storage import StageDir
from lgsid_ray.tokenizer.assign import directions
from lgsid_ray.tokenizer.features import COLUMNS, Transform, moments, raw_features
from lgsid_ray.tokenizer.latent import Beside
from lgsid_ray.tokenizer.levels import Level, on_embeddings
from lgsid_ray.tokenizer.tokenizer import FILE, Tokenizer

FEATURES = FeatureConfig(projection=3)


def gauss(rows: int, dimension: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((rows, dimension)).astype(np.float32)


def items(count: int, seed: int = 0) -> pa.Table:
    rng = np.random.default_rng(seed)
    ids = {name: pa.array([f"{name}{i}" if i else None for i in rng.integers(0, 6, count)]) for name in COLUMNS[:-2]}
    return pa.table({**ids, "lat": rng.uniform(-60, 60, count), "lon": rng.uniform(-180, 180, count)})


def fitted(with_features: bool, dimension: int = 6) -> Tokenizer:
    later = [on_embeddings(gauss(size, dimension, size)) for size in (5, 7)]
    if not with_features:
        return Tokenizer("res_kmeans", (on_embeddings(gauss(9, dimension, 1)), *later))
    raw = raw_features(items(300), FEATURES, 4)
    transform = Transform(FEATURES, 4, moments(raw))
    return Tokenizer(
        "hgit", (Level("features", transform.standardise(raw)[:9], gauss(9, dimension, 1)), *later), transform
    )


@pytest.mark.parametrize("with_features", [True, False])
def test_encode_is_the_loop_of_equations_10_to_12(with_features: bool) -> None:
    tokenizer, embeddings = fitted(with_features), gauss(80, 6, 5)
    features = tokenizer.transform(items(80, 1)) if tokenizer.transform else np.empty((80, 0))
    expected = []
    for feature, embedding in zip(features, embeddings, strict=True):
        left, row = embedding.astype(np.float64), []
        for level in tokenizer.levels:
            rows = feature if level.space == "features" else left
            row.append(int(np.argmin([np.square(rows - code).sum() for code in level.codebook])))
            left = left - level.centres[row[-1]]
        expected.append(row)
    found = tokenizer.encode(items(80, 1) if with_features else None, embeddings)
    assert found.dtype == np.int32
    assert found.tolist() == expected


@settings(max_examples=25)
@given(st.integers(0, 1000), st.integers(1, 60), st.booleans())
def test_an_item_has_its_tokens_alone_and_in_any_batch(seed: int, batch: int, with_features: bool) -> None:
    tokenizer, table, embeddings = fitted(with_features), items(60, seed), gauss(60, 6, seed)
    whole = tokenizer.encode(table, embeddings)
    starts = range(0, 60, batch)
    parts = [tokenizer.encode(table.slice(at, batch), embeddings[at : at + batch]) for at in starts]
    assert np.array_equal(np.concatenate(parts), whole)


def test_near_ties_fall_alike_alone_and_in_any_batch() -> None:
    rng = np.random.default_rng(0)
    dimension, shift = 96, np.float32(3)
    centres = np.repeat(gauss(20, dimension, 0), 4, axis=0) + shift
    # Codes that differ in the last bit of some entries, and rows between two of them: float32 products cannot tell.
    centres = np.where(rng.random(centres.shape) < 0.1, np.nextafter(centres, np.float32(9)), centres)
    pairs = rng.integers(0, 80, (400, 2))
    rows = ((centres[pairs[:, 0]] + centres[pairs[:, 1]]) / 2).astype(np.float32)
    tokenizer = Tokenizer("res_kmeans", (on_embeddings(centres), on_embeddings(centres - shift)))
    whole = tokenizer.encode(None, rows)
    exact = np.square(rows[:, None].astype(np.float64) - centres[None].astype(np.float64)).sum(axis=2).argmin(axis=1)
    assert np.array_equal(whole[:, 0], exact)
    alone = [tokenizer.encode(None, rows[at : at + 1]) for at in range(400)]
    assert np.array_equal(np.concatenate(alone), whole)
    order = rng.permutation(400)
    assert np.array_equal(tokenizer.encode(None, rows[order]), whole[order])


def ranked(dimension: int = 6) -> Tokenizer:
    """Levels by every metric and assigner."""
    levels = []
    for size, price in ((9, None), (8, np.linspace(0, 0.3, 8, dtype=np.float32))):
        code, centre = directions(gauss(size, dimension, size)), gauss(size, dimension, size)
        levels += [Level("embeddings", code, centre, "cosine", price), on_embeddings(gauss(size, dimension, 3), price)]
    return Tokenizer("unified_sid", tuple(levels))


def test_prices_and_angles_are_saved_and_an_item_has_its_tokens_alone(tmp_path: Path) -> None:
    tokenizer, rows = ranked(), gauss(300, 6, 5)
    whole = tokenizer.encode(None, rows)
    free = Tokenizer("unified_sid", tuple(replace(level, price=None) for level in tokenizer.levels))
    assert (free.encode(None, rows)[:, 3] != whole[:, 3]).any()
    tokenizer.save(tmp_path)
    found = Tokenizer.load(tmp_path)
    for a, b in zip(found.levels, tokenizer.levels, strict=True):
        assert (a.metric, a.assigner, a.price is None) == (b.metric, b.assigner, b.price is None)
        assert a.price is None or np.array_equal(a.price, b.price)
    assert np.array_equal(found.encode(None, rows), whole)
    assert np.array_equal(np.concatenate([found.encode(None, row[None]) for row in rows]), whole)


def test_decode_sums_the_chosen_centres() -> None:
    tokenizer = fitted(False)
    tokens = np.array([[0, 4, 6], [8, 0, 0]], np.int32)
    a, b, c = (level.centres for level in tokenizer.levels)
    assert tokenizer.decode(tokens) == pytest.approx(np.stack([a[0] + b[4] + c[6], a[8] + b[0] + c[0]]))


def test_encoding_what_was_decoded_finds_it_again_where_levels_shrink() -> None:
    eye = np.eye(4, dtype=np.float32)
    tokenizer = Tokenizer("res_kmeans", (on_embeddings(100 * eye), on_embeddings(5 * eye)))
    tokens = np.stack(np.meshgrid(np.arange(4), np.arange(4)), axis=-1).reshape(-1, 2).astype(np.int32)
    assert np.array_equal(tokenizer.encode(None, tokenizer.decode(tokens)), tokens)


@pytest.mark.parametrize("with_features", [True, False])
def test_a_tokenizer_comes_back_whole_from_its_file(with_features: bool, tmp_path: Path) -> None:
    tokenizer, out = fitted(with_features), StageDir(str(tmp_path))
    # An array in another memory order must not come back scrambled.
    tokenizer = Tokenizer(
        tokenizer.kind, (*tokenizer.levels[:2], on_embeddings(np.asfortranarray(gauss(7, 6, 7)))), tokenizer.transform
    )
    tokenizer.save(out)
    assert out.members("") == {FILE}
    for where in (out, str(tmp_path), tmp_path, tmp_path / FILE):
        found = Tokenizer.load(where)
        assert found.kind == tokenizer.kind
        for a, b in zip(found.levels, tokenizer.levels, strict=True):
            assert (a.space, a.metric, a.assigner) == (b.space, b.metric, b.assigner)
            assert np.array_equal(a.codebook, b.codebook)
            assert np.array_equal(a.centres, b.centres)
        assert np.array_equal(
            found.encode(items(50, 2), gauss(50, 6, 3)), tokenizer.encode(items(50, 2), gauss(50, 6, 3))
        )
    assert (found.transform is not None) == with_features
    if found.transform is not None and tokenizer.transform is not None:
        assert (found.transform.config, found.transform.seed) == (FEATURES, 4)
        assert found.transform.moments.count == 300
        assert np.array_equal(found.transform(items(9)), tokenizer.transform(items(9)))


def test_features_beside_embeddings_are_quantised_with_them_and_not_decoded(tmp_path: Path) -> None:
    raw = raw_features(items(300), FEATURES, 4)
    transform = Transform(FEATURES, 4, moments(raw))
    levels = tuple(on_embeddings(gauss(size, 6 + raw.shape[1], size)) for size in (9, 5))
    Tokenizer("geo_fused", levels, transform, Beside(6, 0.5)).save(tmp_path)
    tokenizer, embeddings, table = Tokenizer.load(tmp_path), gauss(80, 6, 5), items(80, 1)
    assert tokenizer.dimension == 6
    expected = []
    for row in np.hstack([embeddings, 0.5 * transform(table)]).astype(np.float64):
        left = row
        for level in levels:
            code = int(np.argmin([np.square(left - centre).sum() for centre in level.centres]))
            expected.append(code)
            left = left - level.centres[code]
    tokens = tokenizer.encode(table, embeddings)
    assert tokens.ravel().tolist() == expected
    both = levels[0].centres[tokens[:, 0]] + levels[1].centres[tokens[:, 1]]
    assert tokenizer.decode(tokens) == pytest.approx(both[:, :6])
    assert tokenizer.decode(tokens[:, :1]) == pytest.approx(levels[0].centres[tokens[:, 0], :6])


@pytest.mark.parametrize("keep", [0, 7, 40, 300, -1])
def test_a_torn_file_is_refused_with_its_name_and_the_remedy(keep: int, tmp_path: Path) -> None:
    fitted(True).save(tmp_path)
    path = tmp_path / FILE
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(StorageError, match=r"tokenizer\.safetensors is corrupt.*delete"):
        Tokenizer.load(tmp_path)


def test_a_file_in_which_one_number_has_changed_is_refused(tmp_path: Path) -> None:
    fitted(True).save(tmp_path)
    content = bytearray((tmp_path / FILE).read_bytes())
    content[-3] ^= 1
    (tmp_path / FILE).write_bytes(content)
    with pytest.raises(StorageError, match="its numbers are not those that were written"):
        Tokenizer.load(tmp_path)


@pytest.mark.parametrize("name", ["level_1.codebook", "level_2.centres", "moments.total"])
def test_a_file_that_lacks_a_tensor_is_refused(name: str, tmp_path: Path) -> None:
    fitted(True).save(tmp_path)
    path = tmp_path / FILE
    content = path.read_bytes()
    tensors = load(content)
    del tensors[name]
    path.write_bytes(save(tensors, {"tokenizer": "{}"}))
    with pytest.raises(StorageError, match="is corrupt"):
        Tokenizer.load(tmp_path)


def test_a_file_of_other_safetensors_and_a_missing_one_are_refused(tmp_path: Path) -> None:
    (tmp_path / FILE).write_bytes(save({"weight": np.zeros(3, np.float32)}))
    with pytest.raises(StorageError, match=r"tokenizer\.safetensors is corrupt"):
        Tokenizer.load(tmp_path)
    with pytest.raises(StorageError, match=r"tokenizer\.safetensors is missing"):
        Tokenizer.load(tmp_path / "absent")


def test_what_does_not_fit_is_refused_and_says_how() -> None:
    tokenizer = fitted(True)
    with pytest.raises(InputError, match=r"embeddings of shape \(4, 5\).*takes \(items, 6\)"):
        tokenizer.encode(items(4), gauss(4, 5, 0))
    with pytest.raises(InputError, match="3 items for 4 embeddings"):
        tokenizer.encode(items(3), gauss(4, 6, 0))
    with pytest.raises(InputError, match="no items for 4 embeddings"):
        tokenizer.encode(None, gauss(4, 6, 0))
    with pytest.raises(InputError, match="columns brand, lat are missing"):
        tokenizer.encode(items(4).drop_columns(["brand", "lat"]), gauss(4, 6, 0))


@pytest.mark.parametrize("with_features", [True, False])
def test_no_items_have_no_tokens(with_features: bool) -> None:
    assert fitted(with_features).encode(items(5).slice(0, 0), gauss(0, 6, 0)).shape == (0, 3)
