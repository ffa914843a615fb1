"""The head of the page and the tables of facts: the one number, the run, the catalogue."""

from typing import Any

from lgsid_ray.artifacts.frontier import ARMS
from lgsid_ray.artifacts.probes import SEARCH
from lgsid_ray.evaluate.table import between, strongest
from lgsid_ray.report.inputs import Story
from lgsid_ray.report.markup import Markup, caption, flat, join, number, section, table, tag

GROUPS = {
    "all": "all items",
    "train": "training items",
    "held_city": "held out by city",
    "held_place": "held out by district",
    "held_random": "held out at random",
}
SAVED = {"aligned": "the aligned model", "fused": "fused embeddings, which train nothing"}
"""What the spaces beside origin are called, in the order of the page."""
SEARCHED = {"fused": "fused embeddings", "origin": "reference embeddings"}
"""Beside the aligned model, where free text is searched for."""


def header(story: Story) -> Markup:
    """The one number, and what stands beside it; without coordinates there is none, and a sentence that says so."""
    metrics = story.metrics
    items = [*_worth_cards(story), _card(number(metrics["items"]), "items with a semantic ID")]
    if story.unlocated:
        return _head("Semantic IDs: what this run found", story.unlocated, items)
    found, saved = metrics["frontier"].get("all", {}), metrics["saved"].get("all", {})
    named = [name for name in SAVED if name in saved and "kept" in saved[name]]
    cards = [card for name in named for card in _saved_cards(story, name)]
    rival = strongest(found.get("gap_closed", {}))
    if rival:
        told = f"of the geographic gap is closed by {ARMS[rival]} at {metrics['floor']:.0%} of origin's Similarity@5"
        text = f"{told}: the strongest that is neither trained nor told labels{_missed(found, rival)}"
        cards.append(_card(number(found["gap_closed"][rival], 2), text))
    lead = (
        "A gap of 0 is the untouched language model; 1 is an oracle that knows every district and re-ranks by it. "
        "Both, and every arm, are read where the same share of the model's meaning is left."
    )
    if "aligned" not in named:
        vectors = "location texts fused into the" if "fused" in named else "the"
        lead += f" This run aligned nothing: the semantic IDs rest on {vectors} reference embeddings."
    head = _head("Geographic semantic IDs: what this run found", lead, [*cards, *_search_cards(story), *items])
    reason = f"Why there is a dash: {found['reason']}." if "reason" in found else ""
    return join([head, caption(reason)]) if reason else head


def _saved_cards(story: Story, name: str) -> list[Markup]:
    """What a saved space is worth everywhere, and where it was held out; the rival beside it, where one is read."""
    saved = story.metrics["saved"]
    whole = saved["all"][name]
    rival = strongest(whole["gap_closed"])
    text = f"of the geographic gap is closed by {SAVED[name]}, keeping {whole['kept']:.1%} of Similarity@5"
    if whole["saved_interval"]:
        text += f" (95 %: {between(whole['saved_interval'])})"
    if rival and name == "aligned":
        text += f"; {ARMS[rival]}, which trains nothing, closes {number(whole['gap_closed'][rival], 2)} there"
    cards = [_card(number(whole["saved"], 2), text, "card first" if name == "aligned" else "card")]
    for group in ("held_city", "held_place"):
        if "kept" in saved.get(group, {}).get(name, {}):
            told = f"{SAVED[name]}, {GROUPS[group]}, keeping {saved[group][name]['kept']:.1%}"
            cards.append(_card(number(saved[group][name]["saved"], 2), told))
    return cards


def _search_cards(story: Story) -> list[Markup]:
    """What free text finds by the aligned model, beside what is saved without training."""
    if story.probes is None:
        return []
    known = {row["arm"]: row["found"] for row in story.probes[SEARCH] if row["group"] == "known"}
    beside = [f"{number(known[arm], 2)} by {name}" for arm, name in SEARCHED.items() if arm in known]
    if "aligned" not in known:
        return []
    text = f"of what free text finds is of the kind and in the district asked for; {' and '.join(beside)}"
    return [_card(number(known["aligned"], 2), text)]


def _worth_cards(story: Story) -> list[Markup]:
    """What SIDs add to each ranker, and each generator to the rules that count."""
    cards = []
    for name, gain in story.recommenders.get("rank", {}).get("gain", {}).items():
        if sure := gain["test"]["interval"].get("auc"):
            reached = story.recommenders["rank"]["models"][name]["test"]["mean"]["auc"]
            text = f"points of AUC are added by SIDs to {name}: {number(reached, 3)} (95 %: {_points(*sure)})"
            cards.append(_card(_point(gain["test"]["mean"]["auc"]), text))
    found = story.recommenders.get("generate", {})
    for name, splits in found.get("worth", {}).items():
        blend, gain = found["blends"][name]["test"]["next"], splits["test"]["next"]
        if gain:
            text = (
                f"points of Hit@10 for the next item are added by training to all rules that count, {name}: "
                f"{number(blend['hit@10'], 3)} (95 %: {_points(gain['hit@10_low'], gain['hit@10_high'])})"
            )
            cards.append(_card(_point(gain["hit@10"]), text))
    return cards


def _points(low: float, high: float) -> str:
    return f"{_point(low)} to {_point(high)}"


def _point(share: float) -> str:
    """In hundredths; what rounds to nothing is +0.0 from either side."""
    return f"{round(100 * share, 1) + 0.0:+.1f}"


def _head(title: str, lead: str, cards: list[Markup]) -> Markup:
    boxes = Markup(f'<div class="cards">{join(cards)}</div>')
    return join([tag("h1", title), tag("p", lead, classes="lead"), boxes])


def run_section(story: Story) -> Markup:
    """Stages with seconds, rows and memory; where the configuration stands."""
    rows = []
    for manifest in story.manifests.values():
        facts = ", ".join(f"{key} {number(value)}" for key, value in flat(manifest["facts"])[:4])
        seconds = number(float(manifest["seconds"]), 1)
        rows.append(
            [manifest["stage"], facts, seconds, number(float(manifest["peak_memory_mb"]), 0), manifest["fingerprint"]]
        )
    total = sum(float(manifest["seconds"]) for manifest in story.manifests.values())
    last = max(manifest["finished"] for manifest in story.manifests.values())
    versions = sorted({manifest["version"] for manifest in story.manifests.values()})
    return section(
        "run",
        "The run",
        table(["stage", "first facts", "seconds", "peak MiB", "fingerprint"], rows, text_columns=2),
        caption(
            f"{number(total, 0)} seconds in all; last stage before this page finished {last}; lgsid_ray "
            f"{', '.join(versions)}; seed {story.metrics['seed']}. Peak memory is that of the driver and all "
            "processes below it, shared pages counted once; cells trained side by side share seconds and memory. "
            "A fingerprint covers a stage's settings, inputs and code."
        ),
    )


def catalogue_section(story: Story) -> Markup:
    """What was read, what was refused and why."""
    counts = [[name, number(value)] for name, value in flat(story.counts)]
    parts = [
        table(["count", "value"], counts),
        caption("What the catalogue stage read, accepted, filled in and split, as it counted it."),
        tag("h3", "Quarantine"),
    ]
    if story.quarantine:
        rows = [[*row[:3], number(row[3])] for row in story.quarantine[:40]]
        parts.append(table(["table", "column", "reason", "rows"], rows, text_columns=3))
        parts.append(caption("Rows that were refused, with the raw row, stand in the catalogue's quarantine.parquet."))
    else:
        parts.append(tag("p", "No row was refused."))
    return section("catalogue", "The catalogue", *parts)


def _missed(found: dict[str, Any], arm: str) -> str:
    point = found.get("arms", {}).get(arm)
    return "" if point is None or point["reached"] else " (the arm does not come down to the floor: a lower bound)"


def _card(value: str, text: str, classes: str = "card") -> Markup:
    return tag("div", tag("b", value), tag("span", text), classes=classes)
