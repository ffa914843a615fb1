"""Terminal tables of what the recommenders measured: models beside their trivial baselines, on the test split."""

from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table

Metrics = dict[str, Any]


def tables(rank: Metrics | None, generate: Metrics | None) -> list[Table]:
    """One table per kind that was run and not skipped; cells are means, with the deviation over initialisations."""
    made = []
    if rank is not None and "models" in rank:
        made.append(_rank(rank))
    if generate is not None and "models" in generate:
        made.append(_generate(generate))
    return made


def _rank(found: Metrics) -> Table:
    names = list(dict.fromkeys(name for splits in found["models"].values() for name in splits["test"]["mean"]))
    table = _table("Click prediction, test split", ["ranker", *names])
    for model, splits in found["models"].items():
        test = splits["test"]
        table.add_row(model, *(_spread(test["mean"].get(name), test["std"].get(name)) for name in names))
    for baseline, splits in found["baselines"].items():
        table.add_row(f"{baseline} (baseline)", *(_spread(splits["test"].get(name), None) for name in names))
    return table


def _generate(found: Metrics) -> Table:
    everything = found["models"] | found["baselines"]
    names = list(next(iter(everything.values()))["test"]["all"])
    table = _table("Next-item generation, leave-last-out", ["generator", "targets", *names])
    for model, splits in everything.items():
        label = model if model in found["models"] else f"{model} (baseline)"
        for part, targets in (("all", "all"), ("new", "new to the user")):
            figures = splits["test"].get(part) or {}
            table.add_row(label, targets, *(_spread(figures.get(name), None) for name in names))
    return table


def _spread(mean: float | None, deviation: float | None) -> str:
    if mean is None:
        return "–"
    return f"{mean:.3f}" if deviation is None else f"{mean:.3f}±{deviation:.3f}"


def _table(title: str, columns: list[str]) -> Table:
    table = Table(title=title, box=SIMPLE_HEAD, title_justify="left")
    for place, column in enumerate(columns):
        table.add_column(column, justify="left" if place == 0 or column == "targets" else "right")
    return table
