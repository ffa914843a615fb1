"""A finished run on disk: a seeded small world through the real evaluate stage, with names that attack the page."""

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from lgsid_ray.artifacts import Embeddings, Items, Quarantine, Sids
from lgsid_ray.artifacts.embeddings import column
from lgsid_ray.config import RunConfig
from lgsid_ray.evaluate.stage import evaluate, frontier
from lgsid_ray.execution.storage import StageDir

ATTACKS = [
    "</script><script>alert(1)</script>",
    '<img src=x onerror="alert(2)">',
    "<a href='https://evil.example/'>offer</a>",
    'Bob\'s "Best" & Söhne',
    "$css ${plotly}",
]
CITIES = [("Colorado", "Denver"), ("Colorado", "Boulder"), ("Utah", "Moab"), ("Utah", "Ogden"), ("Texas", "Austin")]
CENTRES = np.array([[39.74, -104.99], [40.01, -105.27], [38.57, -109.55], [41.22, -111.97], [30.27, -97.74]])


@pytest.fixture(scope="session")
def finished_run(tmp_path_factory) -> dict[str, StageDir]:
    """The inputs of the report stage, all of them."""
    return write_run(tmp_path_factory.mktemp("report"), count=300)


@pytest.fixture(scope="session")
def run_of_two_items(tmp_path_factory) -> dict[str, StageDir]:
    """Too few items for a frontier, a t-SNE plane or a cluster."""
    return write_run(tmp_path_factory.mktemp("two"), count=2)


@pytest.fixture(params=[False, True], ids=["no labels", "a hierarchy of its own"])
def run_without_places(tmp_path_factory, request) -> dict[str, StageDir]:
    """A catalogue without coordinates: nothing was aligned."""
    stages = write_run(tmp_path_factory.mktemp("films"), count=60, located=False, labelled=request.param)
    return {name: stage for name, stage in stages.items() if name not in ("embed_aligned", "reward", "align", "probes")}


def write_run(root: Any, count: int, located: bool = True, labelled: bool = True) -> dict[str, StageDir]:
    rng = np.random.default_rng(0)
    district = rng.integers(0, 15, count)
    city = district // 3
    places = CENTRES[city] + rng.normal(scale=0.06, size=(count, 2))
    names = ["catalogue", "embed", "embed_content", "embed_aligned", "reward", "align", "tokenise"]
    made = ("frontier", "evaluate", "probes", "rank", "generate")
    stages = {name: StageDir(f"{root}/{name}").make() for name in [*names, *made]}
    columns: dict[str, Any] = {field.name: pa.nulls(count, field.type) for field in Items.schema}
    columns |= {"item_index": np.arange(count), "item_id": [f"i{i}" for i in range(count)]}
    columns |= {"name": [ATTACKS[i % 5] if i % 20 < 5 else f"Cafe {i}" for i in range(count)]}
    if labelled:
        columns |= {"province": [CITIES[c][0] for c in city], "city": [CITIES[c][1] for c in city]}
        columns["district"] = [f"Ward {d % 3}" for d in district]
    if located:
        columns |= {"lat": places[:, 0], "lon": places[:, 1]}
    columns |= {"split": [["train", "train", "train", "held_place", "held_random"][i % 5] for i in range(count)]}
    Items(stages["catalogue"]).write(pa.table(columns), "part-00000.parquet")
    write_quarantine(stages["catalogue"])
    stages["catalogue"].write_json("counts.json", {"items_read": count + 3, "items": {"accepted": count}})
    write_vectors(stages, district, rng)
    write_sids(stages["tokenise"], np.stack([city * 2 + district % 2, rng.integers(0, 8, count)], axis=1))
    write_training(stages)
    config = RunConfig.model_validate({"evaluate": {"ks": [5, 10], "queries": 100}})
    judged = {name: stages[name] for name in names if located or name != "embed_aligned"}
    frontier(config, judged, stages["frontier"])
    evaluate(config, judged, stages["evaluate"])
    write_probes(stages["probes"])
    for name, stage in stages.items():
        facts = {"rows": count, "split": {"train": 180}, "sizes": [12, 8]}
        stage.write_json("manifest.json", manifest("tokenise/hgit" if name == "tokenise" else name, facts))
    return stages


def manifest(name: str, facts: dict[str, Any]) -> dict[str, Any]:
    fixed = {"stage": name, "fingerprint": "0123456789abcdef", "version": "0.1", "seed": 0, "seconds": 1.5}
    return fixed | {"facts": facts, "config": {}, "peak_memory_mb": 512.0, "finished": "2026-01-01T00:00:00+00:00"}


def write_probes(stage: StageDir) -> None:
    found = {"queries": 37, "weight": 0.0, "found": 0.8317, "interval": [0.8018, 0.8619], "kind": 0.7, "district": 0.6}
    places = [(arm, group) for group in ("held_city", "known") for arm in ("origin", "aligned", "told")]
    dropped = {"arm": "fused", "group": "known", "queries": 37, "itself": 0.9137, "district": 0.0471}
    renamed = {"arm": "aligned", "items": 61, "own_names": 0.6937, "other_names": 0.5873}
    search = [{"arm": arm, "group": group, **found} for arm, group in places]
    stage.write_json(
        "metrics.json", {"query": "{kind} <by> {city}", "search": search, "dropped": [dropped], "renamed": [renamed]}
    )


def write_quarantine(stage: StageDir) -> None:
    row = {
        "table": "items",
        "file": "shops.csv",
        "row": 7,
        "column": "lat",
        "reason": "<b>out of range</b>",
        "raw": "{}",
    }
    Quarantine(stage).write(pa.Table.from_pylist([row] * 3))


def write_vectors(stages: dict[str, StageDir], district: np.ndarray, rng: np.random.Generator) -> None:
    count = len(district)
    topic = rng.normal(size=(10, 16))[rng.integers(0, 10, count)] + 0.5 * rng.normal(size=(count, 16))
    direction = rng.normal(size=(15, 16))[district]
    for name, pull in (("embed_content", 0.0), ("embed", 0.15), ("embed_aligned", 0.7)):
        vectors = topic + pull * direction
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        ids = [f"i{i}" for i in range(count)]
        table = pa.table({"item_index": range(count), "item_id": ids, "embedding": column(vectors.astype(np.float32))})
        Embeddings(stages[name]).write(table, "part-00000.parquet")


def write_sids(stage: StageDir, tokens: np.ndarray) -> None:
    count = len(tokens)
    sids = {"item_index": np.arange(count), "item_id": [f"i{i}" for i in range(count)], "tokens": tokens.tolist()}
    sids |= {"collision": np.zeros(count), "sid": [f"<a_{a}><b_{b}>" for a, b in tokens]}
    Sids(stage).write(pa.table(sids))
    level = {"size": 12, "usage": 1.0, "kl": 0.1}
    levels = [level | {"perplexity": p, "relative_error": e} for p, e in ((9.1, 0.7), (7.9, 0.4321))]
    counts = {"items": count, "distinct_sids": count - 7, "collision_rate": 0.41, "max_items_per_sid": 5}
    stage.write_json("metrics.json", counts | {"levels": levels})
    stage.write_json("history.json", [{"epoch": epoch, "loss": 1 / epoch, "kl": 0.1} for epoch in range(1, 6)])


def write_training(stages: dict[str, StageDir]) -> None:
    steps = range(1, 101)
    stages["reward"].write_json("history.json", [{"step": s, "loss": 1 / s, "kendall": 1 - 1 / s} for s in steps])
    align = {"step": list(steps), "loss_align": [0.7 / s for s in steps], "lambda": [1.0] * 100}
    stages["align"].write_json("history.json", align)
    figures = {"mean": {"auc": 0.61, "gauc": 0.6, "logloss": 0.4}, "std": {"auc": 0.01, "gauc": 0.01, "logloss": 0.02}}
    ranker = {"models": {"din/origin": {"test": figures}, "din/lgsid": {"test": figures}}}
    ranker["gain"] = {"din/lgsid": {"test": {"mean": {"auc": 0.0064}, "interval": {"auc": [0.0041, 0.0088]}}}}
    ranker["baselines"] = {"popularity": {"test": {"auc": 0.58, "gauc": 0.55, "logloss": 0.5}}}
    stages["rank"].write_json("metrics.json", ranker)
    stages["rank"].write_json("history.json", [])
    stages["generate"].write_json("metrics.json", {"skipped": "the interactions have no order"})
    stages["generate"].write_json("history.json", [])
