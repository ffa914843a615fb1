"""What the page shows of a run, read in bounded memory: facts and metrics whole, items and vectors by sample."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from lgsid_ray.arrays import Float32, Int64
from lgsid_ray.artifacts import Embeddings, Frontier, Items, Quarantine, Sids
from lgsid_ray.artifacts.labels import LEVELS
from lgsid_ray.draws import random_bits
from lgsid_ray.execution.stage import Inputs
from lgsid_ray.execution.storage import StageDir

COLUMNS = ("item_index", "name", "category_1", *LEVELS, "lat", "lon")


@dataclass(frozen=True)
class Story:
    """Everything the page is made of."""

    manifests: dict[str, dict[str, Any]]
    """By the stage's role, as are `histories` and `recommenders`; those of cells (`rank/din/hgit/0`) too."""
    metrics: dict[str, Any]
    """Of the stages frontier and evaluate."""
    probes: dict[str, Any] | None
    """None where no aligned encoder was asked."""
    frontier: list[dict[str, Any]]
    counts: dict[str, Any]
    quarantine: list[tuple[str, str, str, int]]
    """Table, column, reason, rows."""
    histories: dict[str, list[dict[str, Any]]]
    recommenders: dict[str, dict[str, Any]]
    items: pa.Table
    """The sample, in item order."""
    tokens: Int64
    """(n, levels), of all items."""
    vectors: dict[str, Float32]
    """`origin` and, where there are any, `fused` or `aligned`: rows of the sample's first items by rank."""
    drawn: Int64
    """Rows of `items` that `vectors` hold."""

    @property
    def unlocated(self) -> str | None:
        """What a catalogue without coordinates means for the run; None where there are coordinates."""
        if self.metrics["located"]:
            return None
        own = any(row["labels"] for row in self.metrics["clustering"])
        level = "rests on content and the catalogue's own hierarchy" if own else "is content alone"
        return f"This catalogue has no coordinates: nothing is aligned, level 1 of the SIDs {level}."


def read_story(inputs: Inputs, points: int, plane_points: int) -> Story:
    """Read a finished run; at most `points` items and, of them, `plane_points` vectors."""
    metrics = inputs["frontier"].read_json("metrics.json") | inputs["evaluate"].read_json("metrics.json")
    count = metrics["items"]
    ranked = np.argsort(random_bits(0, "report/sample", np.arange(count)))
    chosen = np.sort(ranked[:points])
    few = np.sort(ranked[: min(points, plane_points)])
    spaces = {"origin": "embed", "fused": "fuse", "aligned": "embed_aligned"}
    return Story(
        manifests={name: stage.read_json("manifest.json") for name, stage in inputs.items()},
        metrics=metrics,
        probes=inputs["probes"].read_json("metrics.json") if "probes" in inputs else None,
        frontier=Frontier(inputs["frontier"]).read().to_pylist(),
        counts=inputs["catalogue"].read_json("counts.json"),
        quarantine=_quarantine(inputs["catalogue"]),
        histories={
            role: _history(stage)  # a family's table has its cells' curves
            for role, stage in inputs.items()
            if "/" not in role and stage.exists("history.json")
        },
        recommenders={name: inputs[name].read_json("metrics.json") for name in ("rank", "generate") if name in inputs},
        items=Items(inputs["catalogue"]).rows(chosen, COLUMNS),
        tokens=Sids(inputs["tokenise"]).tokens(count),
        vectors={name: Embeddings(inputs[stage]).of(few) for name, stage in spaces.items() if stage in inputs},
        drawn=np.searchsorted(chosen, few),
    )


def read_names(catalogue: StageDir, chosen: Int64) -> dict[int, str]:
    """item_index → name of a few items."""
    table = Items(catalogue).rows(np.unique(chosen), ["item_index", "name"])
    return dict(zip(table.column("item_index").to_pylist(), table.column("name").to_pylist(), strict=True))


def _quarantine(catalogue: StageDir) -> list[tuple[str, str, str, int]]:
    keys = ["table", "column", "reason"]
    table = Quarantine(catalogue).read(keys)
    grouped = table.group_by(keys, use_threads=False).aggregate([([], "count_all")]).to_pylist()
    rows = [(row["table"] or "", row["column"] or "", row["reason"] or "", row["count_all"]) for row in grouped]
    return sorted(rows, key=lambda row: (-row[3], row[:3]))


def _history(stage: StageDir) -> list[dict[str, Any]]:
    """A history as rows: it is stored as a list of rows, or as columns of equal length."""
    stored = stage.read_json("history.json")
    if isinstance(stored, list):
        return [row for row in stored if isinstance(row, dict)]
    columns = {name: column for name, column in stored.items() if isinstance(column, list)}
    length = max((len(column) for column in columns.values()), default=0)
    return [{name: column[row] for name, column in columns.items() if row < len(column)} for row in range(length)]
