"""The stage on finished inputs, its tables in the terminal, and every setting's effect."""

import io
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
from rich.console import Console

from lgsid_ray.artifacts.frontier import ARMS
from lgsid_ray.config import RunConfig
from lgsid_ray.errors import StorageError
from lgsid_ray.evaluate import space as spaces
from lgsid_ray.evaluate.stage import evaluate, frontier
from lgsid_ray.evaluate.table import spread, tables
from lgsid_ray.execution.storage import StageDir
from tests.evaluate.conftest import corpus_of, write_stages


def settings(seed: int = 0, **changes) -> RunConfig:
    section = {"ks": [5, 10], "queries": 60, "clusters": 8, "cluster_items": 200} | changes
    return RunConfig.model_validate({"seed": seed, "evaluate": section})


def judged(stages, tmp_path, name: str = "out", **changes) -> tuple[dict, dict, pa.Table]:
    """Metrics of both stages, as the page and the terminal put them together; facts and frontier of the first."""
    out, sids = (StageDir(f"{tmp_path}/{name}-{part}").make() for part in ("frontier", "evaluate"))
    facts = frontier(settings(**changes), stages, out)
    evaluate(settings(**changes), stages, sids)
    metrics, ours = out.read_json("metrics.json"), sids.read_json("metrics.json")
    assert not metrics.keys() & ours.keys()
    return metrics | ours, facts, out.read_table("frontier.parquet")


def test_metrics_and_frontier_are_whole(stages, tmp_path):
    metrics, facts, points = judged(stages, tmp_path)
    assert metrics["located"] is True
    assert len(metrics["retrieval"]) == 2 * 4 * 2
    assert {row["space"] for row in metrics["clustering"]} == {"origin", "aligned"}
    assert set(points.column("arm").to_pylist()) == set(ARMS)
    assert set(metrics["saved"]["all"]) == {"aligned"}
    assert facts["aligned/kept/all"] == metrics["saved"]["all"]["aligned"]["kept"] < 1
    assert metrics["sid_geography"][0]["one_city"] == 1.0
    assert {(row["space"], row["prefix"]) for row in metrics["sid_neighbours"]} == {
        (space, row["prefix"]) for space in ("origin", "aligned") for row in metrics["sid_geography"]
    }
    assert metrics["codebook"]["collision_rate"] == 0.25
    for group in ("all", "train", "held_place", "held_random"):
        assert facts[f"gap_closed/aligned/{group}"] == metrics["frontier"][group]["gap_closed"]["aligned"] > 0
    before, after = (
        next(r for r in metrics["retrieval"] if (r["space"], r["group"], r["k"]) == (space, "all", 5))
        for space in ("origin", "aligned")
    )
    assert after["district"] > before["district"]
    assert before["similarity"] == pytest.approx(metrics["frontier"]["all"]["origin"]["similarity"])


def test_same_seed_same_bytes(stages, tmp_path):
    first, second = (judged(stages, tmp_path, name) for name in ("a", "b"))
    assert first == second


def test_every_setting_has_an_effect(stages, tmp_path):
    base = judged(stages, tmp_path)[0]
    changes = ({"ks": [3]}, {"queries": 20}, {"floor": 0.9}, {"clusters": 4}, {"cluster_items": 50}, {"seed": 1})
    for number, change in enumerate(changes):
        assert judged(stages, tmp_path, f"other{number}", **change)[0] != base


def test_without_alignment_and_content_only_origin_is_judged(stages, tmp_path):
    few = {name: stage for name, stage in stages.items() if name not in ("embed_aligned", "embed_content")}
    metrics, facts, _ = judged(few, tmp_path)
    assert {row["space"] for row in metrics["retrieval"]} == {"origin"}
    assert all(row["content_similarity"] is None for row in metrics["retrieval"])
    assert "gap_closed/late_fusion/all" in facts
    assert "gap_closed/aligned/all" not in facts
    assert tables([metrics])


def test_without_coordinates_there_is_no_late_fusion_and_no_kilometre(space, tmp_path):
    unlocated = replace(space, xyz=None, aligned=None, content=None, said=None)
    metrics, _, points = judged(write_stages(tmp_path, corpus_of(unlocated)), tmp_path)
    assert metrics["located"] is False
    assert set(points.column("arm").to_pylist()) == {"oracle", "levels", "label_fusion"}
    assert metrics["frontier"]["all"]["gap_closed"].keys() == {"levels", "label_fusion"}
    assert all(row["district"] is not None for row in metrics["retrieval"])
    assert metrics["sid_geography"][0]["one_city"] == 1.0
    assert metrics["sid_geography"][0]["radius_km"] is None
    assert tables([metrics])


def test_without_places_and_labels_meaning_is_judged_and_the_rest_has_a_reason(space, tmp_path):
    bare = replace(space, labels=np.full_like(space.labels, -1), xyz=None, aligned=None, content=None, said=None)
    metrics, _, points = judged(write_stages(tmp_path, corpus_of(bare)), tmp_path)
    assert points.num_rows == 0
    assert metrics["frontier"]["all"] == {"reason": "no item has a known district"}
    for row in metrics["retrieval"]:
        assert row["similarity"] > 0
        assert row["district"] is None
        assert row["reason"] == "no query has a known province or city or district"
    for row in (*metrics["clustering"], *metrics["sid_geography"]):
        assert row["reason"]
    assert tables([metrics])


def test_one_item_gives_reasons_not_errors(stages_of_one_item, tmp_path):
    metrics, _, points = judged(stages_of_one_item, tmp_path)
    assert points.num_rows == 0
    assert metrics["frontier"]["all"]["reason"]
    assert all(row["district"] is None and row["reason"] for row in metrics["retrieval"])
    assert all(row["ami"] is None and row["reason"] for row in metrics["clustering"])
    assert tables([metrics])


def test_missing_embeddings_are_refused(stages, tmp_path):
    stages["embed"].remove("embeddings/part-00001.parquet")
    with pytest.raises(StorageError, match="do not belong together: 240 items, 160 embeddings"):
        judged(stages, tmp_path)


@pytest.mark.usefixtures("ray_local")
def test_parts_in_tasks_say_what_one_says_here(stages, tmp_path, monkeypatch):
    whole, facts, points = judged(stages, tmp_path)
    monkeypatch.setattr(spaces, "PART_ROWS", 17)
    cut, other_facts, other_points = judged(stages, tmp_path, "cut")
    assert numbers(cut) == pytest.approx(numbers(whole), abs=1e-3)
    assert facts.keys() == other_facts.keys()
    assert points.select(["arm", "group", "knob"]) == other_points.select(["arm", "group", "knob"])


def numbers(metrics: dict) -> dict[str, float]:
    """Of the tables; where a frontier is read off between two equal points, its knob is any of them."""
    told = {
        f"{'/'.join(str(row[key]) for key in ('space', 'group', 'k'))}/{name}": row[name]
        for row in metrics["retrieval"]
        for name in ("similarity", "content_similarity", "district", "km", "near")
    }
    told |= {
        f"{group}/{arm}": closed
        for group, found in metrics["frontier"].items()
        for arm, closed in found["gap_closed"].items()
    }
    told |= {f"{row['space']}/{row['level']}": row["ami"] for row in metrics["clustering"]}
    told |= {f"{row['space']}/{row['prefix']}": row["recall"] for row in metrics["sid_neighbours"]}
    return told | {f"{row['space']}/order": row["city"] for row in metrics["distance_order"]}


def test_tables_of_three_seeds_show_mean_and_deviation(stages, tmp_path):
    runs = [judged(stages, tmp_path, f"seed{seed}", seed=seed)[0] for seed in range(3)]
    console = Console(width=200, record=True, file=io.StringIO())
    for table in tables(runs):
        console.print(table)
    text = console.export_text()
    closed = np.array([run["frontier"]["held_place"]["gap_closed"]["aligned"] for run in runs])
    assert f"{closed.mean():.3f}±{closed.std(ddof=1):.3f}" in text
    for title in (
        "Geographic gap closed at 97%",
        "As saved",
        "Retrieval, queries: train, seeds 0, 1, 2",
        "NMI",
        "SID prefixes",
        "Codebooks",
    ):
        assert title in text
    caption = "233±0 SIDs for 240±0 items: a share of 0.250±0.000 has no SID of its own; the largest SID has 5±0."
    assert caption in " ".join(text.split())
    books = text[text.index("Codebooks") :].splitlines()
    assert [line.split()[-1] for line in books if line.lstrip()[:2] in ("1 ", "2 ")] == ["0.700±0.000", "0.432±0.000"]


def test_spread_of_one_many_and_unknown():
    assert spread([0.5]) == "0.500"
    assert spread([1.0, 3.0], 1) == "2.0±1.4"
    assert spread([1.0, None]) == spread([]) == "–"
