"""Texts that no catalogue holds: whom they ask for, and that both encoders embed them."""

from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch

from lgsid_ray.artifacts import Items
from lgsid_ray.artifacts.embeddings import vectors
from lgsid_ray.artifacts.labels import path_codes
from lgsid_ray.artifacts.probes import Probes, ProbeVectors
from lgsid_ray.artifacts.table import matrix
from lgsid_ray.config import load
from lgsid_ray.encoder import probes as stage
from lgsid_ray.encoder import stage as stages
from lgsid_ray.encoder.model import locate_model, make_encoder
from lgsid_ray.encoder.probes import embed_probes, pairs, renamed, search_texts, singles
from lgsid_ray.encoder.prompts import content_only_prompts, full_prompts, location_prompts
from lgsid_ray.execution.storage import StageDir
from tests.conftest import stream_in_process


def catalogue(count: int = 400) -> pa.Table:
    rng = np.random.default_rng(0)
    district = rng.integers(0, 12, count)
    held = {3: "held_place", 7: "held_city"}
    columns = {
        "item_index": np.arange(count),
        "item_id": [f"i{row}" for row in range(count)],
        "name": [f"place {row}" for row in range(count)],
        "category_1": [None if row % 9 == 0 else f"group {row % 2}" for row in range(count)],
        "category_2": [None if row % 3 == 0 else f"kind {row % 5}" for row in range(count)],
        "province": ["north"] * count,
        "city": [f"city {code // 4}" for code in district],
        "district": [None if row % 10 == 0 else f"ward {code}" for row, code in enumerate(district)],
        "split": [held.get(code, "held_random" if row % 4 == 0 else "train") for row, code in enumerate(district)],
    }
    return pa.table({f.name: pa.array(columns.get(f.name, [None] * count), f.type) for f in Items.schema})


def test_each_kind_is_sought_once_in_each_district(monkeypatch: pytest.MonkeyPatch) -> None:
    items = catalogue()
    kind = ["category_2" if two else "category_1" for two in items.column("category_2").to_pylist()]
    of = [items.column(name)[row].as_py() for row, name in enumerate(kind)]
    district = items.column("district").to_pylist()
    expected = {(a, b) for a, b in zip(of, district, strict=True) if a and b}
    found = pairs(items, 0)
    assert len(found) == len(expected)
    assert {(of[row], district[row]) for row in found} == expected
    monkeypatch.setattr(stage, "ASKED", 4)
    for chosen in (pairs(items, 0), singles(items, 0)):
        assert sorted(chosen) == chosen.tolist()
        split = Counter(items.column("split")[int(row)].as_py() for row in chosen)
        assert split["held_city"] == split["held_place"] == split["train"] + split["held_random"] == 4
        assert all(district[row] for row in chosen)
    assert not np.array_equal(pairs(items, 0), pairs(items, 1))


def test_districts_pass_their_names_on_in_a_circle(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stage, "A_DISTRICT", 10)
    items = catalogue()
    chosen, names = renamed(items, 0)
    code = path_codes(items)[chosen, -1]
    assert sorted(chosen) == chosen.tolist()
    assert set(Counter(code.tolist()).values()) == {10}
    own = np.asarray(items.column("district").to_pylist(), dtype=object)[chosen]
    given = {(int(c), before, after) for c, before, after in zip(code, own, names, strict=True)}
    assert len(given) == len(set(code.tolist())) == 12
    assert all(before != after for _, before, after in given)
    assert {before for _, before, _ in given} == {after for _, _, after in given}
    monkeypatch.setattr(stage, "RENAMED_ITEMS", 45)
    assert len(renamed(items, 0)[0]) == 40


def test_without_districts_there_is_nothing_to_ask(tmp_path: Path) -> None:
    items = catalogue()
    for known in ([], ["ward 1"]):
        names = pa.array([known[0] if known else None] * len(items), pa.string())
        one = items.set_column(items.column_names.index("district"), "district", names)
        one = one.set_column(one.column_names.index("city"), "city", pa.array(["city"] * len(items)))
        assert renamed(one, 0) == (pytest.approx([]), [])
    none = items.set_column(items.column_names.index("district"), "district", pa.nulls(len(items), pa.string()))
    inputs = {name: StageDir(f"{tmp_path}/{name}").make() for name in ("catalogue", "align")}
    Items(inputs["catalogue"]).write(none, "part-00000.parquet")
    config, out = load(None, [f"encoder.model={tiny(inputs['align'], 0)}"]), StageDir(f"{tmp_path}/out").make()
    assert embed_probes(config, inputs, out) == {"search": 0, "dropped": 0, "renamed": 0}
    assert Probes(out).count() == 0


def test_the_query_is_what_the_template_says() -> None:
    items = catalogue().slice(1, 2)
    assert search_texts(items, "{kind} near {district}, {city}") == [
        f"kind {row} near {items.column('district')[row - 1]}, {items.column('city')[row - 1]}" for row in (1, 2)
    ]


def tiny(folder: StageDir, seed: int) -> str:
    """The path of a language model with random weights."""
    from transformers import AutoTokenizer, BertConfig, BertModel

    torch.manual_seed(seed)
    tokenizer = AutoTokenizer.from_pretrained(locate_model("minilm"))
    sizes = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    BertModel(BertConfig(vocab_size=len(tokenizer), **sizes)).save_pretrained(folder.path("model"))
    tokenizer.save_pretrained(folder.path("model"))
    return folder.path("model")


@pytest.mark.parametrize("kinds", [True, False])
def test_both_encoders_embed_every_text(kinds: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stages, "stream", stream_in_process)
    inputs = {name: StageDir(f"{tmp_path}/{name}").make() for name in ("catalogue", "align")}
    items = catalogue()
    for name in () if kinds else ("category_1", "category_2"):
        place = items.column_names.index(name)
        items = items.set_column(place, name, pa.nulls(len(items), pa.string()))
    Items(inputs["catalogue"]).write(items, "part-00000.parquet")
    reference, aligned = tiny(StageDir(f"{tmp_path}/tiny"), 0), tiny(inputs["align"], 1)
    config = load(None, [f"encoder.model={reference}", "encoder.rows=200", 'evaluate.query="{kind} at {city}"'])
    out = StageDir(f"{tmp_path}/out").make()
    facts = embed_probes(config, inputs, out)
    rows = Probes(out).read().to_pylist()
    assert [row["number"] for row in rows] == list(range(len(rows)))
    assert Counter(row["probe"] for row in rows) == Counter(facts)
    assert (facts["search"] > 0) == kinds, "what is of no kind is not searched for"
    prompt = config.encoder.prompt
    for row in rows[:: len(rows) // 40]:
        item = items.slice(row["item_index"], 1)
        if row["probe"] == "search":
            assert [row["text"]] == search_texts(item, "{kind} at {city}")
            assert [row["location"]] == location_prompts(item, prompt)
        elif row["probe"] == "dropped":
            assert [row["text"]] == content_only_prompts(item, prompt)
            assert row["location"] == ""
        else:
            [whole], district = full_prompts(item, prompt), item.column("district")[0].as_py()
            assert row["text"] != whole
            assert row["text"].startswith(whole.partition(f"district {district}")[0])
    some = slice(0, len(rows), len(rows) // 10)
    for name, path in (("reference", reference), ("aligned", aligned)):
        found, encoder = ProbeVectors(out.child(name)).read(), make_encoder(config.encoder, path)
        for column, text in (("embedding", "text"), ("location", "location")):
            expected = encoder.encode([row[text] for row in rows[some]])
            np.testing.assert_allclose(matrix(found.column(column))[some], expected, atol=1e-5)
    assert vectors(ProbeVectors(out.child("aligned")).read()).shape == (len(rows), 32)
