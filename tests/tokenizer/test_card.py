"""The card of a tokenizer: what stands on it, for catalogues with and without places."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from lgsid_ray.artifacts import Items
from lgsid_ray.artifacts.keys import pack_sids
from lgsid_ray.config import load
from lgsid_ray.execution.storage import StageDir
from lgsid_ray.tokenizer import card as card_module
from lgsid_ray.tokenizer.card import write_card
from lgsid_ray.tokenizer.collisions import crowds, held_by_prefixes
from lgsid_ray.tokenizer.levels import Level, on_embeddings
from lgsid_ray.tokenizer.metrics import Errors, levels_metrics, tokenizer_metrics
from lgsid_ray.tokenizer.survey import survey
from lgsid_ray.tokenizer.tokenizer import Tokenizer

COUNT, SIZES = 30, [5, 4]
TOKENS = np.stack([np.arange(COUNT) % 3, np.arange(COUNT) % 4], axis=1).astype(np.int32)
PROMPT = {"content": ["{name}"], "location": ["city {city}"], "separator": ", "}


def written(folder: Path, space: Any = "features", located: bool = True, *overrides: str) -> tuple[str, dict[str, Any]]:
    """card.md and card.json of a tokenizer of two levels whose first code is a town."""
    columns: dict[str, Any] = {field.name: pa.nulls(COUNT, field.type) for field in Items.schema}
    columns |= {"item_index": range(COUNT), "split": ["train"] * 20 + ["held_place"] * 10}
    columns |= {"name": [f"a|b {row}" for row in range(COUNT)]}
    if located:
        columns |= {"lat": 40.0 + TOKENS[:, 0], "lon": -74 + TOKENS[:, 0] * np.arange(COUNT) / 100}
        columns |= {"province": ["NY"] * COUNT, "city": [f"Town {code}" for code in TOKENS[:, 0]]}
    catalogue, vectors, out = (StageDir(f"{folder}/{name}") for name in ("catalogue", "vectors", "out"))
    Items(catalogue).write(pa.table(columns), "part-00000.parquet")
    vectors.write_json("manifest.json", {"stage": "embed_aligned", "fingerprint": "0123456789abcdef"})
    vectors.write_json("encoder.json", {"kind": "hf", "model": "minilm", "weights": "5eed", "prompt": PROMPT})
    rng = np.random.default_rng(0)
    levels = [on_embeddings(rng.standard_normal((size, 6)).astype(np.float32)) for size in SIZES]
    levels[0] = Level(space, levels[0].codebook, levels[0].centres)
    embeddings = rng.standard_normal((COUNT, 6)).astype(np.float32)
    tokenizer = Tokenizer("hgit", tuple(levels))
    errors = Errors.of(tokenizer, embeddings, TOKENS)
    counts = [np.bincount(column, minlength=size) for column, size in zip(TOKENS.T, SIZES, strict=True)]
    keys = pack_sids(TOKENS, SIZES)
    order = np.argsort(keys, kind="stable")
    held = [one.prefixes for one in held_by_prefixes(keys[order], SIZES)]
    metrics = tokenizer_metrics(levels_metrics(counts, errors), held[-1], errors)
    found = survey(Items(catalogue), TOKENS[:, 0], SIZES[0])
    config = load(None, [f"tokenizer.sizes={SIZES}", *overrides])
    inputs = {"catalogue": catalogue, "vectors": vectors}
    write_card(config, inputs, out, tokenizer, metrics, found, held, crowds(keys[order], order, 10))
    return out.read("card.md").decode(), out.read_json("card.json")


def rows_of(text: str, title: str) -> list[list[str]]:
    """The cells of the table below a heading, without its head and rule."""
    section = text.partition(f"{title}\n")[2].partition("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("|")]
    assert len({len(line) for line in lines}) == 1, "columns stand under each other"
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines[2:]]


def test_what_it_was_made_from_and_what_is_not_as_by_default(tmp_path: Path) -> None:
    text, facts = written(tmp_path, "features", True, "tokenizer.kmeans.iterations=7", "tokenizer.kmeans.actors=9")
    assert text.startswith("# Tokenizer hgit\n")
    assert "- kind: hgit, 2 levels of 5 × 4 codes\n" in text
    assert "- catalogue: 30 items: 20 train (fitted to these alone), 10 held_place\n" in text
    assert "- embeddings: aligned (embed_aligned/0123456789abcdef), 6 dimensions\n" in text
    assert "- model: minilm, weights 5eed\n" in text
    assert f"- prompt: `{{name}}, city {{city}}` (digest {facts['made_from']['prompt_digest']})\n" in text
    assert rows_of(text, "## Settings") == [
        ["sizes", "[5, 4]", "auto"],
        ["kmeans.iterations", "7", "25"],
    ]  # how many actors there were is none of it


def test_codebooks_level_by_level(tmp_path: Path) -> None:
    text, _ = written(tmp_path)
    first, second = rows_of(text, "## Codebooks")
    assert first[:6] == ["1", "5", "60.0%", "2", "3.0", f"{math.log(5 / 3):.3f}"]
    assert second[:4] == ["2", "4", "100.0%", "0"]
    assert first[-1] == f"{math.log2(3):.2f}"
    share = np.unique(TOKENS, axis=0, return_counts=True)[1] / COUNT
    assert second[-1] == f"{-(share * np.log2(share)).sum():.2f}"
    assert "12 SIDs for 30 items: 100.0% of the items share theirs" in text
    assert "The largest, `<a_0><b_0>`, has 3 items." in text


def test_the_map_of_level_1_and_its_widest_codes(tmp_path: Path) -> None:
    text, facts = written(tmp_path)
    shown = rows_of(text, "## Map of level 1")
    assert [row[0] for row in shown] == ["`<a_0>`", "`<a_1>`", "`<a_2>`"]
    assert shown[0] == ["`<a_0>`", "10", "40.000", "-74.000", "0.0", "Town 0", "100%"]
    assert [row[0] for row in rows_of(text, "## The 3 widest codes of level 1")] == ["`<a_2>`", "`<a_1>`", "`<a_0>`"]
    codes = facts["level_1"]
    assert [row["items"] for row in codes] == [10, 10, 10, 0, 0]
    assert codes[3] == {
        "code": 3, "items": 0, "lat": None, "lon": None, "radius_km": None, "city": None, "city_share": 0.0,
    }  # fmt: skip
    assert codes[0]["lat"] == pytest.approx(40)


def test_of_many_codes_the_largest_are_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(card_module, "MAPPED", 2)
    text, facts = written(tmp_path)
    assert "The 2 largest of 3 codes in use" in text
    assert len(rows_of(text, "## Map of level 1")) == 2
    assert len(facts["level_1"]) == 5


def test_a_level_1_of_content_is_said_to_be_one(tmp_path: Path) -> None:
    text, _ = written(tmp_path, "embeddings")
    assert "- level 1 compares: embeddings\n" in text
    assert "Level 1 goes by content here" in text


def test_without_coordinates_and_labels_there_are_fullest_sids_instead(tmp_path: Path) -> None:
    text, facts = written(tmp_path, "embeddings", False)
    assert facts["level_1"][0] == {"code": 0, "items": 10}
    assert rows_of(text, "## Map of level 1")[0] == ["`<a_0>`", "10"]
    fullest = rows_of(text, "## The 10 fullest SIDs")
    assert fullest[0] == ["`<a_0><b_0>`", "3", "a\\|b 0"]
    assert [row[1] for row in fullest] == sorted((row[1] for row in fullest), reverse=True)
    assert "km" not in text
