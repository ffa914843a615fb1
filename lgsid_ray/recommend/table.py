"""Terminal tables of what the recommenders measured: models beside their trivial baselines, on the test split."""

from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table

Metrics = dict[str, Any]
TASKS = {
    "next": "Next item, leave-last-out",
    "discovery": "Discovery: new targets, visited items left out",
}


def tables(rank: Metrics | None, generate: Metrics | None) -> list[Table]:
    """One table per kind that was run and not skipped; cells are means, with the deviation over initialisations."""
    made = []
    if rank is not None and "models" in rank:
        made.append(_rank(rank))
    if generate is not None and "models" in generate:
        made += [_generate(generate, task, title) for task, title in TASKS.items()]
    return made


def _rank(found: Metrics) -> Table:
    names = ["auc", "gauc", "auc_cold", "auc_new", "logloss"]
    table = _table(
        "Click prediction, test split; below the line: trees on the same facts, and rules", ["ranker", *names]
    )
    for model, splits in found["models"].items():
        test = splits["test"]
        table.add_row(model, *(_spread(test["mean"].get(name), test["std"].get(name)) for name in names))
    table.add_section()
    for baseline, splits in found["baselines"].items():
        table.add_row(baseline, *(_spread(splits["test"].get(name), None) for name in names))
    table.caption = "\n".join(
        f"{model}: SIDs add {_sure(gain['test']['mean']['auc'], *gain['test']['interval']['auc'])} of auc"
        for model, gain in found["gain"].items()
        if "auc" in gain["test"]["interval"]
    )
    return table


def _generate(found: Metrics, task: str, title: str) -> Table:
    names = ["hit@5", "hit@10", "ndcg@10"]
    table = _table(f"{title}; below the line: rules that count", ["generator", *names, "95 % of hit@10"])
    for group in (found["models"] | found["blends"], found["baselines"]):
        table.add_section()
        for name, splits in group.items():
            figures = splits["test"].get(task)
            if figures is not None:
                within = f"{figures['hit@10_low']:.3f} to {figures['hit@10_high']:.3f}"
                table.add_row(name, *(_spread(figures[key], None) for key in names), within)
    gains = {name: splits["test"].get(task) for name, splits in found["worth"].items()}
    table.caption = "\n".join(
        f"{name}: {_sure(gain['hit@10'], gain['hit@10_low'], gain['hit@10_high'])} of hit@10 beyond the mixture"
        for name, gain in gains.items()
        if gain
    )
    return table


def _sure(gain: float, low: float, high: float) -> str:
    return f"{gain:+.3f} (95 %: {low:+.3f} to {high:+.3f})"


def _spread(mean: float | None, deviation: float | None) -> str:
    if mean is None:
        return "–"
    return f"{mean:.3f}" if deviation is None else f"{mean:.3f}±{deviation:.3f}".replace("±0", "±")


def _table(title: str, columns: list[str]) -> Table:
    table = Table(title=title, box=SIMPLE_HEAD, title_justify="left", caption_justify="left")
    for place, column in enumerate(columns):
        table.add_column(column, justify="left" if place == 0 else "right")
    return table
