"""The page's tables on recommenders: rankers and generators beside their trivial baselines."""

from typing import Any

from lgsid_ray.report.inputs import Story
from lgsid_ray.report.markup import Markup, caption, join, number, section, table, tag


def recommender_section(story: Story) -> Markup:
    """Rankers and generators beside their trivial baselines."""
    parts: list[Markup] = []
    rank, generate = story.recommenders.get("rank"), story.recommenders.get("generate")
    for title, found, draw in (
        ("Click prediction", rank, _rank_table),
        ("Next-item generation", generate, _generate_table),
    ):
        if found is not None:
            parts.append(tag("h3", title))
            skipped = found.get("skipped")
            parts.append(tag("p", f"Left out: {skipped}.") if skipped else draw(found))
    if not parts:
        parts.append(tag("p", "This run trained no recommender."))
    return section("recommenders", "What the SIDs are worth to a recommender", *parts)


def _rank_table(found: dict[str, Any]) -> Markup:
    names = list(dict.fromkeys(key for splits in found["models"].values() for key in splits["test"]["mean"]))
    rows: list[list[str]] = []
    strong: list[int] = []
    for name, splits in found["models"].items():
        if not name.endswith("/origin"):
            strong.append(len(rows))
        test = splits["test"]
        rows.append([name, "model", *(_with_spread(test["mean"].get(k), test["std"].get(k)) for k in names)])
    for name, splits in found["baselines"].items():
        rows.append([name, "trivial baseline", *(number(splits["test"].get(key)) for key in names)])
    return join(
        [
            table(["ranker", "kind", *names], rows, strong, text_columns=2),
            caption(
                "On the test split. “origin” is the same model without SIDs, trained on the same samples; ± is "
                "the standard deviation over initialisations. A gain below it is no gain, and a model below a trivial "
                "baseline has learnt less than that rule. Higher is better but for log-loss."
            ),
        ]
    )


def _generate_table(found: dict[str, Any]) -> Markup:
    tables = found["models"] | found["baselines"]
    names = list(next(iter(tables.values()))["test"]["all"])
    rows: list[list[str]] = []
    strong: list[int] = []
    for name, splits in tables.items():
        kind = "model" if name in found["models"] else "trivial baseline"
        for part, label in (("all", "all targets"), ("new", "new to the user")):
            figures = splits["test"].get(part)
            if figures:
                if kind == "model":
                    strong.append(len(rows))
                rows.append([name, kind, label, *(number(figures.get(key)) for key in names)])
    share = found.get("new_share", {}).get("test")
    return join(
        [
            table(["generator", "kind", "targets", *names], rows, strong, text_columns=3),
            caption(
                "Leave-last-out on the test split over the whole catalogue. Repeat visits are easy, so targets new to "
                f"their user ({number(share, 3)} of all) stand apart. A generator is worth its training only where "
                "it beats the best trivial baseline on the same line."
            ),
        ]
    )


def _with_spread(mean: float | None, deviation: float | None) -> str:
    return number(mean) if mean is None or deviation is None else f"{number(mean)} ± {number(deviation)}"
