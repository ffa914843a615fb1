"""Terminal tables of what was judged: one run, or several seeds side by side as mean ± standard deviation."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from rich.box import SIMPLE_HEAD
from rich.table import Table

from lgsid_ray.artifacts.frontier import ARMS, MEASURES, UNTRAINED
from lgsid_ray.artifacts.labels import LEVELS
from lgsid_ray.evaluate.frontiers import FRONTIER_K

Metrics = dict[str, Any]
FLOORS = {"frontier": "oracle", "content_frontier": "content_oracle"}
"""Where the gaps closed at a floor stand, and which arm closes them all."""
SHORT = {
    "similarity": "Similarity",
    "content_similarity": "Content",
    "province": "P@K",
    "city": "C@K",
    "district": "T@K",
}


CODEBOOK = {
    "codes": ("size", 0),
    "in use": ("usage", 3),
    "perplexity": ("perplexity", 1),
    "KL": ("kl", 3),
    "error left": ("relative_error", 3),
}
"""What is told of a level: heading → its key in `levels`, and digits."""
_SIDS = {"items": 0, "distinct_sids": 0, "collision_rate": 3, "max_items_per_sid": 0}


def tables(metrics: list[Metrics]) -> list[Table]:
    """The tables of one run or of several seeds of the same run: gap closed, retrieval, clusters, SIDs, codebooks.

    Each of `metrics` is what the stages `frontier` and `evaluate` have written, together, or what one of them has.

    Rows and columns are those of the first run; a cell is `mean±standard deviation` over the runs, or the value
    alone where there is one. A dash stands for what could not be measured; its reason stands in metrics.json.
    """
    made = list[Table]()
    if "frontier" in metrics[0]:
        made += [_gaps(metrics), _saved(metrics), *(_retrieval(metrics, group) for group in metrics[0]["groups"])]
        made += [_orders(metrics), _clustering(metrics)]
    if "codebook" in metrics[0]:
        made += [_sid_geography(metrics), _codebook(metrics)]
    return [table for table in made if table.row_count]


def spread(values: Iterable[float | None], digits: int = 3) -> str:
    """`mean±sd` of several values, the value itself if there is one, a dash where any is unknown."""
    known = list(values)
    if not known or any(value is None for value in known):
        return "–"
    numbers = np.array(known, dtype=float)
    text = f"{numbers.mean():.{digits}f}"
    return text if len(numbers) == 1 else f"{text}±{numbers.std(ddof=1):.{digits}f}"


def _gaps(metrics: list[Metrics]) -> Table:
    first = metrics[0]
    table = _table(
        f"Geographic gap closed at {first['floor']:.0%} of origin's Similarity@{FRONTIER_K}{_seeds(metrics)}",
        ["queries", "arm"],
        ["gap closed", "95 %", "content", f"T@{FRONTIER_K}", f"C@{FRONTIER_K}", "Similarity"],
    )
    reasons: list[str] = []
    for group, found in first["frontier"].items():
        if "reason" in found:
            reasons.append(f"{group}: {found['reason']}")
        for place, arm in enumerate(["origin", *(arm for arm in ARMS if arm in found.get("arms", {}))]):
            points = [_point(run, group, arm) for run in metrics]
            closed = [spread([_closed(run, name, group, arm) for run in metrics]) for name in FLOORS]
            sure = between(found.get("interval", {}).get(arm)) if len(metrics) == 1 else "–"
            names = ("district", "city", "similarity")
            values = [spread([point.get(name) for point in points]) for name in names]
            missed = "" if all(point.get("reached", True) for point in points) else " *"
            label = ARMS.get(arm, arm) + missed
            table.add_row("" if place else group, label, closed[0], sure, closed[1], *values)
        table.add_section()
    reasons.append("95 %: of the draws of a bootstrap over whole places")
    reasons.append("content: at a floor that keeps as much of ContentSimilarity, where the content oracle closes all")
    reasons.append("*: the arm does not come down to the floor, its figures are lower bounds")
    reasons.append("every arm is read where its frontier meets the floor; what was saved stands in the next table")
    table.caption = "; ".join(reasons)
    return table


def _saved(metrics: list[Metrics]) -> Table:
    """What the saved spaces are worth, beside the strongest rival that keeps as much Similarity as each."""
    title = f"As saved, beside the strongest that is neither trained nor told labels{_seeds(metrics)}"
    values = ["kept", "content kept", "gap closed", "95 %", "rival's", "rival"]
    table = _table(title, ["queries", "space"], values)
    for group, spaces in metrics[0]["saved"].items():
        for name in spaces:
            found = [run["saved"].get(group, {}).get(name, {}) for run in metrics]
            if name == "reason" or any("kept" not in one for one in found):
                continue
            rival = strongest(found[0]["gap_closed"])
            sure = between(found[0]["saved_interval"]) if len(metrics) == 1 else "–"
            kept = [spread([one[measure] for one in found]) for measure in ("kept", "content_kept", "saved")]
            theirs = spread([one["gap_closed"].get(rival) for one in found])
            table.add_row(group, name, *kept, sure, theirs, ARMS.get(rival or "", "–"))
    table.caption = "kept: share of origin's Similarity@5; rivals and oracle are read where they keep as much"
    return table


def strongest(closed: Mapping[str, float | None]) -> str | None:
    """The arm that closes most of the gap without training and without labels."""
    known = {arm: value for arm in UNTRAINED if (value := closed.get(arm)) is not None}
    return max(known, key=known.__getitem__) if known else None


def between(ends: Sequence[float] | None) -> str:
    """An interval as text."""
    return f"{ends[0]:.2f}-{ends[1]:.2f}" if ends else "–"


def _closed(run: Metrics, floor: str, group: str, arm: str) -> float | None:
    found = run.get(floor, {}).get(group, {"reason": ""})
    if arm in ("origin", FLOORS[floor]):
        return None if "reason" in found else float(arm != "origin")
    value: float | None = found.get("gap_closed", {}).get(arm)
    return value


def _point(run: Metrics, group: str, arm: str) -> dict[str, Any]:
    found = run["frontier"].get(group, {})
    return (found.get("origin") if arm == "origin" else found.get("arms", {}).get(arm)) or {}


def _retrieval(metrics: list[Metrics], group: str) -> Table:
    title = f"Retrieval, queries: {group}{_seeds(metrics)}"
    table = _table(title, ["K", "space"], [*(SHORT[name] for name in MEASURES), "km", "NDCG"])
    rows = [row for row in metrics[0]["retrieval"] if row["group"] == group]
    for row in sorted(rows, key=lambda row: int(row["k"])):
        same = _matching(metrics, "retrieval", ("group", "k", "space"), row)
        values = [spread([other[name] for other in same]) for name in MEASURES]
        near = spread([other["near"] for other in same])
        table.add_row(str(row["k"]), row["space"], *values, spread([other["km"] for other in same], 1), near)
    return table


def _orders(metrics: list[Metrics]) -> Table:
    table = _table(f"Rank correlation of cosine and nearness{_seeds(metrics)}", ["space"], ["own city", "everywhere"])
    for row in metrics[0]["distance_order"]:
        same = _matching(metrics, "distance_order", ("space",), row)
        table.add_row(row["space"], *(spread([other[name] for other in same]) for name in ("city", "everywhere")))
    return table


def _clustering(metrics: list[Metrics]) -> Table:
    table = _table(f"K-Means clusters against labels{_seeds(metrics)}", ["level", "space"], ["clusters", "NMI", "AMI"])
    for row in sorted(metrics[0]["clustering"], key=lambda row: LEVELS.index(row["level"])):
        same = _matching(metrics, "clustering", ("level", "space"), row)
        clusters = spread([other["clusters"] for other in same], 0) if row["clusters"] else row.get("reason", "–")
        values = [spread([other[name] for other in same]) for name in ("nmi", "ami")]
        table.add_row(row["level"], row["space"], clusters, *values)
    return table


def _sid_geography(metrics: list[Metrics]) -> Table:
    columns: dict[str, Callable[[Metrics], float | None]] = {
        "clusters": lambda row: row["clusters"],
        "in one province": lambda row: row["one_province"],
        "in one city": lambda row: row["one_city"],
        "majority city": lambda row: row["majority_city"],
        "radius km": lambda row: row["radius_km"],
    }
    table = _table(f"SID prefixes on the map{_seeds(metrics)}", ["prefix"], list(columns))
    for row in metrics[0]["sid_geography"]:
        same = _matching(metrics, "sid_geography", ("prefix",), row)
        cells = [
            spread([value(other) for other in same], 0 if name == "clusters" else 1 if "km" in name else 3)
            for name, value in columns.items()
        ]
        table.add_row(f"{row['prefix']} token{'s' if row['prefix'] > 1 else ''}", *cells)
    return table


def _codebook(metrics: list[Metrics]) -> Table:
    table = _table(f"Codebooks{_seeds(metrics)}", ["level"], list(CODEBOOK))
    books = [run["codebook"] for run in metrics]
    for level, same in enumerate(zip(*(book["levels"] for book in books), strict=True), start=1):
        cells = [spread([other[name] for other in same], digits) for name, digits in CODEBOOK.values()]
        table.add_row(str(level), *cells)
    told = {name: spread([book[name] for book in books], digits) for name, digits in _SIDS.items()}
    table.caption = (
        f"{told['distinct_sids']} SIDs for {told['items']} items: a share of {told['collision_rate']} has no SID of "
        f"its own; the largest SID has {told['max_items_per_sid']}."
    )
    return table


def _matching(metrics: list[Metrics], table: str, keys: tuple[str, ...], row: Metrics) -> list[Metrics]:
    """The same row of every run."""
    return [next(other for other in run[table] if all(other[key] == row[key] for key in keys)) for run in metrics]


def _seeds(metrics: list[Metrics]) -> str:
    return "" if len(metrics) == 1 else f", seeds {', '.join(str(run['seed']) for run in metrics)}"


def _table(title: str, keys: list[str], values: list[str]) -> Table:
    table = Table(
        title=title, title_justify="left", caption_justify="left", box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0)
    )
    for name in keys:
        table.add_column(name)
    for name in values:
        # Folded, a figure is whole on any width; with an ellipsis it would be another figure.
        table.add_column(name, justify="right", overflow="fold")
    return table
