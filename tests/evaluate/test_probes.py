"""What the probes say of spaces that are known: free text against a loop, dropped places, exchanged names."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from lgsid_ray.artifacts import Embeddings, Items
from lgsid_ray.artifacts.embeddings import column
from lgsid_ray.artifacts.fusion import Fusion, unit
from lgsid_ray.artifacts.probes import Probes, ProbeVectors
from lgsid_ray.config import load
from lgsid_ray.evaluate.probes import Asked, K, dropped, probes, renamed, searched
from lgsid_ray.evaluate.space import Corpus, Space, read_corpus
from lgsid_ray.execution.storage import StageDir
from tests.evaluate.conftest import corpus_of, write_stages

COUNT = 240
KIND = np.arange(COUNT) % 6
SPLIT = np.array(["train", "held_random", "held_place", "held_city"])[np.arange(COUNT) % 4]
ASKED = np.arange(0, COUNT, 5)


@pytest.fixture
def fusion(corpus: Corpus) -> Fusion:
    assert corpus.texts is not None
    return Fusion.fitted(corpus.texts.embedded[corpus.texts.trained], 0.4)


@pytest.fixture
def whole(corpus: Corpus, space: Space, fusion: Fusion) -> Corpus:
    """With fused embeddings beside the aligned ones."""
    assert corpus.texts is not None
    assert space.said is not None
    located = np.where(space.said[:, None] >= 0, corpus.texts.embedded[space.said], np.float32(np.nan))
    return corpus_of(replace(space, fused=fusion(space.reference, located)), corpus.texts)


def items_of(corpus: Corpus) -> Space:
    return corpus.of(np.arange(len(corpus)))


def asked(corpus: Corpus, noise: float = 0.3) -> Asked:
    """Texts that lie near their items; the aligned encoder has them where it has the items."""
    rng, space = np.random.default_rng(3), items_of(corpus)
    assert corpus.texts is not None
    assert space.said is not None
    assert space.aligned is not None
    more = noise * rng.standard_normal((len(ASKED), space.reference.shape[1]))
    place = corpus.texts.embedded[np.maximum(space.said[ASKED], 0)]
    return Asked(ASKED, unit(space.reference[ASKED] + more), unit(space.aligned[ASKED] + 0.3 * more), place)


def test_what_free_text_finds_against_a_loop(whole: Corpus, fusion: Fusion) -> None:
    given = asked(whole)
    rows = searched(whole, SPLIT, KIND, given, fusion, 0)
    arms = ["origin", "fused", "aligned", "text_fusion", "whitened_fusion", "content_fusion", "mixed", "told"]
    assert list(dict.fromkeys(row["arm"] for row in rows)) == arms
    place, space = whole.labels[:, -1], items_of(whole)
    for arm, vectors, query in (
        ("origin", space.reference, given.reference),
        ("fused", space.fused, given.reference),
        ("aligned", space.aligned, given.aligned),
    ):
        for group, splits in (("known", ("train", "held_random")), ("held_place", ("held_place",))):
            found, near, alike = [], [], []
            for number, item in enumerate(ASKED):
                if SPLIT[item] not in splits:
                    continue
                best = np.argsort(-(vectors @ query[number]), kind="stable")[:K]
                right = [place[one] == place[item] and KIND[one] == KIND[item] for one in best]
                there = sum(place[one] == place[item] and KIND[one] == KIND[item] for one in range(COUNT))
                found.append(sum(right) / min(there, K))
                near.append((place[best] == place[item]).mean())
                alike.append((KIND[best] == KIND[item]).mean())
            row = next(row for row in rows if (row["arm"], row["group"]) == (arm, group))
            assert row["queries"] == len(found)
            assert row["weight"] == 0
            for name, values in (("found", found), ("district", near), ("kind", alike)):
                assert row[name] == pytest.approx(np.mean(values)), (arm, group, name)
            assert row["interval"][0] <= row["found"] <= row["interval"][1]


def test_a_swept_arm_is_the_best_of_its_weights_in_known_districts(whole: Corpus, fusion: Fusion) -> None:
    given = asked(whole)
    rows = {(row["arm"], row["group"]): row for row in searched(whole, SPLIT, KIND, given, fusion, 0)}
    for arm, least in (("whitened_fusion", "origin"), ("text_fusion", "origin"), ("mixed", "origin")):
        assert rows[arm, "known"]["found"] >= rows[least, "known"]["found"]
        assert rows[arm, "known"]["weight"] == rows[arm, "held_city"]["weight"]
    # Who is told where a query is meant, and leans on it without bound, is right about the place.
    assert rows["told", "known"]["found"] >= rows["whitened_fusion", "known"]["found"]
    assert not searched(whole, SPLIT, KIND, Asked(*(part[:0] for part in vars(given).values())), fusion, 0)


def test_a_place_that_is_not_said_is_not_known(whole: Corpus) -> None:
    content = unit(np.random.default_rng(1).standard_normal((COUNT, 24)).astype(np.float32))
    given = Asked(ASKED, content[ASKED], content[ASKED], content[ASKED])
    same = replace(items_of(whole), reference=content, fused=content, aligned=content)
    for row in dropped(corpus_of(same), SPLIT, given):
        assert row["itself"] == 1
        assert row["district"] < 0.3  # a twelfth by chance
    placed = unit(np.eye(12, 24, dtype=np.float32)[whole.labels[:, -1]] + 1e-3 * content)
    aligned = corpus_of(replace(same, aligned=placed))
    known = [row for row in dropped(aligned, SPLIT, replace(given, aligned=placed[ASKED])) if row["arm"] == "aligned"]
    assert all(row["district"] == 1 for row in known)


def test_who_knows_names_alone_does_not_mind_others(whole: Corpus) -> None:
    names = unit(np.random.default_rng(2).standard_normal((12, 24)).astype(np.float32))
    district, nothing = whole.labels[:, -1], Fusion(np.zeros(24, np.float32), np.eye(24, dtype=np.float32), 0.0)
    every, other = np.arange(COUNT), (district + 1) % 12
    noise = 0.05 * np.random.default_rng(4).standard_normal((COUNT, 24)).astype(np.float32)
    by_name, moved = unit(names[district] + noise), unit(names[other] + noise)
    space = corpus_of(replace(items_of(whole), reference=by_name, fused=by_name, aligned=by_name))
    # The aligned encoder knows where some of the items are, whatever their district is called.
    scattered = unit(names[np.where(every % 2 == 0, other, district)] + noise)
    rows = {row["arm"]: row for row in renamed(space, Asked(every, moved, scattered, moved), nothing)}
    assert rows["origin"]["own_names"] == rows["origin"]["other_names"] == 1
    assert rows["fused"] == rows["origin"] | {"arm": "fused"}
    assert rows["aligned"]["other_names"] < 0.7
    assert renamed(space, Asked(*(part[:K] for part in (every, moved, moved, moved))), nothing) == []


def test_the_stage_reads_what_was_embedded(tmp_path: Path, whole: Corpus, fusion: Fusion) -> None:
    stages = write_stages(tmp_path, whole)
    items = Items(stages["catalogue"]).read()
    kinds = pa.array([f"kind {kind}" for kind in KIND])
    items = items.set_column(items.column_names.index("category_2"), "category_2", kinds)
    Items(stages["catalogue"]).remove()
    Items(stages["catalogue"]).write(items, "part-00000.parquet")
    stages |= {name: StageDir(f"{tmp_path}/{name}").make() for name in ("fuse", "embed_probes", "probes")}
    fusion.save(stages["fuse"])
    keys = items.select(["item_index", "item_id"])
    fused = items_of(whole).fused
    assert fused is not None
    Embeddings(stages["fuse"]).write(keys.append_column("embedding", column(fused)), "part-00000.parquet")
    given = asked(whole)
    number = np.arange(3 * len(ASKED))
    rows = {"number": number, "probe": np.repeat(["search", "dropped", "renamed"], len(ASKED))}
    texts = {"text": [f"text {row}" for row in number], "location": [""] * len(number)}
    table = pa.table({**rows, "item_index": np.tile(ASKED, 3), **texts})
    Probes(stages["embed_probes"]).write(table)
    for name, embedded in (("reference", given.reference), ("aligned", given.aligned)):
        parts = {"embedding": column(np.tile(embedded, (3, 1))), "location": column(np.tile(given.place, (3, 1)))}
        vectors = ProbeVectors(stages["embed_probes"].child(name).make())
        vectors.write(pa.table({"number": number, **parts}), "part-00000.parquet")
    facts = probes(load(None, ["align.enabled=true"]), stages, stages["probes"])
    metrics = stages["probes"].read_json("metrics.json")
    read, split = read_corpus(stages)
    assert metrics["search"] == searched(read, split, KIND, given, fusion, 0)
    assert metrics["dropped"] == dropped(read, split, given)
    assert metrics["renamed"] == renamed(read, given, fusion)
    assert facts == {f"found/{row['arm']}/{row['group']}": row["found"] for row in metrics["search"]}
    stages["embed_probes"] = StageDir(f"{tmp_path}/nothing").make()
    Probes(stages["embed_probes"]).write(table.slice(0, 0), "part-00000.parquet")
    assert probes(load(None, ["align.enabled=true"]), stages, stages["probes"]) == {}
    assert stages["probes"].read_json("metrics.json")["renamed"] == []
