"""Text fusion: whitening against its definition, the weight that a floor allows, the stages against a plain loop."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from lgsid_ray.artifacts import Embeddings, ItemLocations, Items, Locations
from lgsid_ray.artifacts.embeddings import column, vectors
from lgsid_ray.artifacts.fusion import Fusion, unit
from lgsid_ray.config import load
from lgsid_ray.encoder import fuse as fusing
from lgsid_ray.encoder import stage as stages
from lgsid_ray.encoder.fuse import WEIGHTS, embed_fused, embed_location, fuse, weight_at
from lgsid_ray.encoder.model import make_encoder
from lgsid_ray.encoder.prompts import full_prompts, location_prompts
from lgsid_ray.errors import InputError, StorageError
from lgsid_ray.execution.storage import StageDir
from tests.conftest import stream_in_process
from tests.encoder.test_embed_stages import items

COUNT, DIMENSION = 300, 16
OVERRIDES = ("encoder.kind=random_projection", f"encoder.dimension={DIMENSION}", "tokenizer.embeddings=fused")
Inputs = dict[str, StageDir]


def gauss(rows: int, columns: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((rows, columns)).astype(np.float32)


@pytest.fixture
def inputs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Inputs:
    """A catalogue in two parts, a tenth of it without any place, and embeddings in three that are cut elsewhere."""
    monkeypatch.setattr(stages, "stream", stream_in_process)
    monkeypatch.setattr(fusing, "SPAN_ROWS", 77)
    table = items(COUNT)
    row = np.arange(COUNT)
    changed = {
        "city": [None if r % 10 == 0 else f"q{r % 13}" for r in row],
        "district": [None if r % 10 == 0 else f"r{r % 17}" for r in row],
        "split": ["held_place" if r % 17 == 3 else "train" for r in row],
    }
    for name, values in changed.items():
        table = table.set_column(table.column_names.index(name), name, pa.array(values, pa.string()))
    found = {name: StageDir(f"{tmp_path}/{name}").make() for name in ("catalogue", "embed", "embed_location")}
    for part, (start, rows) in enumerate([(0, 130), (130, 170)]):
        Items(found["catalogue"]).write(table.slice(start, rows), f"part-{part:05d}.parquet")
    reference = column(unit(gauss(COUNT, DIMENSION)))
    keys = table.select(["item_index", "item_id"]).append_column("embedding", reference)
    for part, start in enumerate(range(0, COUNT, 110)):
        Embeddings(found["embed"]).write(keys.slice(start, 110), f"part-{part:05d}.parquet")
    found["embed"].write_json("encoder.json", {"kind": "random_projection"})
    embed_location(load(None, list(OVERRIDES)), found, found["embed_location"])
    return found


def run(inputs: Inputs, folder: Path, *overrides: str) -> tuple[StageDir, dict[str, object]]:
    out = StageDir(f"{folder}/fuse").make()
    return out, fuse(load(None, [*OVERRIDES, *overrides]), inputs, out)


def test_whitened_texts_have_no_mean_and_no_direction_in_common() -> None:
    texts = gauss(500, 8) * np.geomspace(1, 0.5, 8, dtype=np.float32) + 3
    fusion = Fusion.fitted(texts, 1.0)
    whitened = (texts - fusion.mean) @ fusion.whitening
    assert np.allclose(whitened.mean(axis=0), 0, atol=1e-4)
    assert np.allclose(np.cov(whitened.T, bias=True), np.eye(8), atol=0.05)  # but for the shrinkage
    assert np.allclose(fusion.whitening, fusion.whitening.T, atol=1e-5)  # ZCA: no direction is turned


def test_fewer_texts_than_dimensions_are_told_apart_in_their_span() -> None:
    texts = unit(gauss(5, 12) * 0.1 + 1)
    directions = Fusion.fitted(texts, 1.0).directions(texts)
    assert np.allclose(directions @ directions.T, np.full((5, 5), -0.25) + 1.25 * np.eye(5), atol=0.1)
    same = Fusion.fitted(np.repeat(texts[:1], 3, axis=0), 1.0)
    assert np.allclose(same.directions(texts[:1]), 0)


def test_what_sets_unseen_texts_apart_lies_outside_the_span_and_counts() -> None:
    texts = unit(gauss(5, 12) * 0.1 + 1)
    outside = np.linalg.svd(texts - texts.mean(axis=0))[2][5:7].astype(np.float32)
    unseen = texts[0] + 0.1 * outside
    directions = Fusion.fitted(texts, 1.0).directions(unseen)
    assert unit(unseen)[0] @ unit(unseen)[1] > 0.9
    assert directions[0] @ directions[1] < 0.1


def test_texts_are_embedded_once_and_every_item_has_its_own(inputs: Inputs) -> None:
    settings = load(None, list(OVERRIDES)).encoder
    told = location_prompts(Items(inputs["catalogue"]).read(), settings.prompt)
    table = Locations(inputs["embed_location"]).read()
    texts = table.column("text").to_pylist()
    assert texts == sorted(set(told) - {""})
    assert np.allclose(vectors(table), make_encoder(settings).encode(texts), atol=1e-6)
    assert table.column("items").to_pylist() == [told.count(text) for text in texts]
    of = ItemLocations(inputs["embed_location"]).texts(COUNT)
    assert [texts[text] if text >= 0 else "" for text in of] == told
    held = [text for row, text in enumerate(told) if row % 17 == 3 and text]
    trained = dict(zip(texts, table.column("training_items").to_pylist(), strict=True))
    assert {trained[text] for text in held} == {0}  # a district that is held out is not whitened by


def test_items_are_fused_with_their_texts_and_those_without_stay(inputs: Inputs, tmp_path: Path) -> None:
    out, facts = run(inputs, tmp_path, "fusion.weight=0.4")
    table = Locations(inputs["embed_location"]).read()
    texts, trained = vectors(table), table.column("training_items").to_numpy() > 0
    fusion = Fusion.load(out)
    expected = Fusion.fitted(texts[trained], 0.4)
    assert np.array_equal(fusion.whitening, expected.whitening)
    of = ItemLocations(inputs["embed_location"]).texts(COUNT)
    locations = np.where(of[:, None] >= 0, texts[of], np.nan).astype(np.float32)
    found, reference = (Embeddings(stage).of(np.arange(COUNT)) for stage in (out, inputs["embed"]))
    assert np.allclose(found, expected(reference, locations), atol=1e-6)
    assert np.allclose(found[of < 0], reference[of < 0], atol=1e-6)
    assert not np.allclose(found[of >= 0], reference[of >= 0], atol=1e-2)
    assert facts["weight"] == 0.4
    assert facts["location_texts"] == len(texts)


def test_new_items_are_fused_as_the_stage_has_fused_them(inputs: Inputs, tmp_path: Path) -> None:
    config = load(None, list(OVERRIDES))
    encoder, prompt = make_encoder(config.encoder), config.encoder.prompt
    table = Items(inputs["catalogue"]).read()
    reference = encoder.encode(full_prompts(table, prompt))
    inputs["embed"].remove("embeddings")
    keys = table.select(["item_index", "item_id"]).append_column("embedding", column(reference))
    Embeddings(inputs["embed"]).write(keys, "part-00000.parquet")
    out, _ = run(inputs, tmp_path)
    some = table.slice(8, 25)  # with places and without
    found = embed_fused(some, encoder, Fusion.load(out), prompt)
    np.testing.assert_allclose(found, Embeddings(out).of(np.arange(COUNT))[8:33], atol=1e-6)
    nowhere = some.filter(pa.array([place is None for place in some.column("city").to_pylist()]))
    assert len(nowhere) > 0
    np.testing.assert_array_equal(
        embed_fused(nowhere, encoder, Fusion.load(out), prompt), unit(encoder.encode(full_prompts(nowhere, prompt)))
    )


def test_the_weight_is_what_the_floor_allows(inputs: Inputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fusing, "PROBED", 10**6)  # all training items are asked: the floor holds to the digit
    out, facts = run(inputs, tmp_path, "fusion.floor=0.8")
    fused, reference = (Embeddings(stage).of(np.arange(COUNT)) for stage in (out, inputs["embed"]))
    asked = Items(inputs["catalogue"]).training()
    kept = [similarity(space, reference, asked) for space in (fused, reference)]
    assert kept[0] / kept[1] == pytest.approx(0.8, abs=0.02)  # between two weights the line is straight
    assert facts["weight"] == Fusion.load(out).weight > 0


def similarity(space: np.ndarray, reference: np.ndarray, asked: np.ndarray) -> float:
    """Mean cosine in the reference space of each of `asked` and its five nearest in `space`."""
    scores = space @ space.T
    np.fill_diagonal(scores, -np.inf)
    nearest = np.argsort(-scores, axis=1)[:, :5]
    return float(np.mean([reference[row] @ reference[nearest[row]].T for row in asked]))


def test_the_weight_is_read_between_two_that_were_tried() -> None:
    kept = np.linspace(1.0, 0.5, len(WEIGHTS))
    assert weight_at(kept, float(kept[4])) == pytest.approx(WEIGHTS[4])
    assert weight_at(kept, float(kept[4] + kept[5]) / 2) == pytest.approx((WEIGHTS[4] + WEIGHTS[5]) / 2)
    assert weight_at(kept, 0.1) == WEIGHTS[-1]
    assert weight_at(kept, 1.0) == 0.0


def test_a_catalogue_that_says_nothing_of_places_is_refused_with_the_remedy(inputs: Inputs, tmp_path: Path) -> None:
    silent = StageDir(f"{tmp_path}/silent").make()
    nowhere = load(None, [*OVERRIDES, "encoder.prompt.location=['{province}']"])
    embed_location(nowhere, inputs, silent)
    with pytest.raises(InputError, match=r"no training item has a location text.*tokenizer.embeddings=origin"):
        fuse(nowhere, {**inputs, "embed_location": silent}, StageDir(f"{tmp_path}/fuse").make())


def test_a_torn_fusion_is_refused(inputs: Inputs, tmp_path: Path) -> None:
    out, _ = run(inputs, tmp_path, "fusion.weight=0.4")
    with out.write("fusion.safetensors") as file:
        file.write(b"torn")
    with pytest.raises(StorageError, match="corrupt"):
        Fusion.load(out)
