"""Codebooks: encode against the loop of Eq 10-12, round trips of files and of the text form."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors import safe_open

from lgsid_ray.errors import StorageError
from lgsid_ray.execution.storage import StageDir
from lgsid_ray.tokenizer.codec import Codebooks, parse_sid, sid_text

TOKENS = st.lists(st.integers(0, 10**6), min_size=1, max_size=8)


def gauss(rows: int, dimension: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((rows, dimension)).astype(np.float32)


def books(with_features: bool) -> Codebooks:
    return Codebooks(gauss(9, 4, 0) if with_features else None, [gauss(9, 6, 1), gauss(5, 6, 2), gauss(7, 6, 3)])


@pytest.mark.parametrize("with_features", [True, False])
def test_encode_is_the_loop_of_equations_10_to_12(with_features: bool) -> None:
    fitted, features, embeddings = books(with_features), gauss(80, 4, 4), gauss(80, 6, 5)
    expected = []
    for feature, embedding in zip(features, embeddings, strict=True):
        left, row = embedding.astype(np.float64), []
        for level, centres in enumerate(fitted.centres_):
            if level == 0 and fitted.centroids_ is not None:
                distances = [np.square(feature - centroid).sum() for centroid in fitted.centroids_]
            else:
                distances = [np.square(left - centre).sum() for centre in centres]
            row.append(int(np.argmin(distances)))
            left = left - centres[row[-1]]
        expected.append(row)
    found = fitted.encode(features if with_features else None, embeddings)
    assert found.dtype == np.int32
    assert found.tolist() == expected


def test_decode_sums_the_chosen_centres() -> None:
    fitted = books(False)
    tokens = np.array([[0, 4, 6], [8, 0, 0]], np.int32)
    a, b, c = fitted.centres_
    assert fitted.decode(tokens) == pytest.approx(np.stack([a[0] + b[4] + c[6], a[8] + b[0] + c[0]]))


def test_encoding_what_was_decoded_finds_it_again_where_levels_shrink() -> None:
    fitted = Codebooks(None, [100 * np.eye(4, dtype=np.float32), 5 * np.eye(4, dtype=np.float32)])
    tokens = np.stack(np.meshgrid(np.arange(4), np.arange(4)), axis=-1).reshape(-1, 2).astype(np.int32)
    assert np.array_equal(fitted.encode(None, fitted.decode(tokens)), tokens)


@pytest.mark.parametrize("with_features", [True, False])
def test_codebooks_come_back_from_their_file(with_features: bool, tmp_path: Path) -> None:
    fitted, out = books(with_features), StageDir(str(tmp_path))
    # An array in another memory order must not come back scrambled.
    fitted.centres_[1] = np.asfortranarray(fitted.centres_[1])
    fitted.save(out, {"method": "hgit", "sizes": [9, 5, 7]})
    found = Codebooks.load(out)
    assert (found.centroids_ is not None) == with_features
    if with_features:
        assert np.array_equal(found.centroids_, fitted.centroids_)
    assert [centres.shape for centres in found.centres_] == [(9, 6), (5, 6), (7, 6)]
    assert all(np.array_equal(a, b) for a, b in zip(found.centres_, fitted.centres_, strict=True))
    with safe_open(tmp_path / "codebooks.safetensors", "numpy") as file:
        assert json.loads(file.metadata()["facts"]) == {"method": "hgit", "sizes": [9, 5, 7]}


@pytest.mark.parametrize("keep", [0, 7, 40, 300])
def test_a_torn_file_is_refused_with_its_name_and_the_remedy(keep: int, tmp_path: Path) -> None:
    out = StageDir(str(tmp_path))
    books(True).save(out, {})
    path = tmp_path / "codebooks.safetensors"
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(StorageError, match=r"codebooks\.safetensors is corrupt.*delete"):
        Codebooks.load(out)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"codebooks\.safetensors is missing"):
        Codebooks.load(StageDir(str(tmp_path)))


@given(TOKENS, st.integers(0, 10**6))
def test_a_sids_text_reads_back(tokens: list[int], collision: int) -> None:
    assert parse_sid(sid_text(tokens, collision)) == (tuple(tokens), collision)


def test_a_sids_text_on_known_answers() -> None:
    assert sid_text([12, 3, 7]) == "<a_12><b_3><c_7>"
    assert sid_text([12, 3, 7], 1) == "<a_12><b_3><c_7><x_1>"
    assert sid_text(np.array([0], np.int32), np.int32(2)) == "<a_0><x_2>"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a_1",
        "<a_1",
        "<a_1> <b_2>",
        "<a_1><b_2>\n",
        "<b_1><a_2>",
        "<a_1><a_2>",
        "<a_1><c_2>",
        "<a_01>",
        "<a_-1>",
        "<a_>",
        "<a_१>",
        "<A_1>",
        "<x_1>",
        "<a_1><x_0>",
        "<x_1><a_1>",
        "<a_1><x_1><b_2>",
        "<a_1><x_1><x_2>",
        "<a_1><i_2>",
        "SID <a_1>",
    ],
)
def test_what_is_no_sid_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not a SID such as"):
        parse_sid(text)


@given(st.text(alphabet="<>abx_012", max_size=16))
def test_whatever_reads_as_a_sid_is_its_text(text: str) -> None:
    try:
        tokens, collision = parse_sid(text)
    except ValueError:
        return
    assert sid_text(tokens, collision) == text


def test_more_levels_than_letters_are_refused_not_cut_short() -> None:
    with pytest.raises(ValueError, match="9 levels"):
        sid_text(range(9))
