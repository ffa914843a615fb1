"""The page's tables on recommenders: rankers and generators beside their trivial baselines."""

from typing import Any

from lgsid_ray.report.inputs import Story
from lgsid_ray.report.markup import Markup, caption, join, number, section, table, tag

CAPTIONS = {
    "next": (
        "What comes next, {test} users",
        "Leave-last-out on the test split over the whole catalogue; repeated visits count. A generator is worth its "
        "training only where it beats what counts: “mixture” weighs all rules below the models, by weights that were "
        "fitted on validation targets, and “+ rules” weighs the generator among them, which is what “lgsid recommend” "
        "gives. “Beyond the mixture” is how far that is ahead in hit@10 of the mixture without the generator, user by "
        "user: what the training is worth. hit@10_cold is of targets with at most five training visits; within_…km is "
        "the share of the ten best that lies so near to the user's last place. Intervals: a bootstrap over users.",
    ),
    "discovery": (
        "What is new, {test} users",
        "Targets that their user has never visited before; what the user has visited is left out of every list. The "
        "rules that repeat have nothing to say here.",
    ),
}
"""Title and explanation of each task."""
TOLD = ("hit@1", "hit@5", "hit@20", "ndcg@10", "mrr", "hit@10_cold", "within_1km", "within_5km")
"""Figures beside hit@10, as far as a run has them; metrics.json has more."""


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
        figures = (_with_spread(test["mean"].get(k), test["std"].get(k)) for k in names)
        rows.append([name, "model", _added(found["gain"].get(name)), *figures])
    for name, splits in found["baselines"].items():
        rows.append(
            [
                name,
                "rival" if name.startswith("trees") else "rule",
                "",
                *(number(splits["test"].get(key)) for key in names),
            ]
        )
    return join(
        [
            table(["ranker", "kind", "SIDs add to auc", *names], rows, strong, text_columns=2),
            caption(
                "On the test split. “origin” is the same model without SIDs, trained on the same samples; ± is "
                "the standard deviation over initialisations. A gain below it is no gain, and a model below a trivial "
                "baseline has learnt less than that rule. “trees” are boosted trees on the facts that every model is "
                "told (habit, distance, time, popularity, kind and price), without IDs, and once more with how SIDs "
                "match: a model that does not beat them has not earned its training. Cold items have few training "
                "clicks, new ones the user has not clicked before, and the tail has the last fifth of all clicks. "
                "Higher is better but for log-loss and calibration error. What SIDs add is a model with them less the "
                "same without; what lies between is 95 % of a bootstrap over users, both on the same draws."
            ),
        ]
    )


def _generate_table(found: dict[str, Any]) -> Markup:
    return join([part for task in ("next", "discovery") for part in _task(found, task)])


def _task(found: dict[str, Any], task: str) -> list[Markup]:
    """The table of one of the two tasks; nothing where it has no target."""
    tables = {
        name: splits["test"][task]
        for name, splits in (found["models"] | found["blends"] | found["baselines"]).items()
        if splits["test"].get(task)
    }
    if not tables:
        return []
    known = {name for figures in tables.values() for name in figures}
    names = [name for name in TOLD if name in known]
    rows = [
        [
            name,
            "model" if name in found["models"] else "both" if name in found["blends"] else "counts",
            number(figures["hit@10"]),
            f"{number(figures['hit@10_low'], 3)} to {number(figures['hit@10_high'], 3)}",
            _worth(found["worth"].get(name, {}).get("test", {}).get(task)),
            *(number(figures.get(key)) for key in names),
        ]
        for name, figures in tables.items()
    ]
    strong = [place for place, name in enumerate(tables) if name in found["blends"]]
    return [
        tag("h4", CAPTIONS[task][0].format(**found["queries" if task == "next" else "discovery"])),
        table(["generator", "kind", "hit@10", "95 %", "beyond the mixture", *names], rows, strong, text_columns=2),
        caption(CAPTIONS[task][1]),
    ]


def _added(gain: dict[str, Any] | None) -> str:
    if gain is None or "auc" not in gain["test"]["interval"]:
        return ""
    return _sure(gain["test"]["mean"]["auc"], *gain["test"]["interval"]["auc"])


def _worth(gain: dict[str, float] | None) -> str:
    return _sure(gain["hit@10"], gain["hit@10_low"], gain["hit@10_high"]) if gain else ""


def _sure(gain: float, low: float, high: float) -> str:
    return f"{gain:+.4f} ({low:+.4f} to {high:+.4f})"


def _with_spread(mean: float | None, deviation: float | None) -> str:
    return number(mean) if mean is None or deviation is None else f"{number(mean)} ± {number(deviation)}"
