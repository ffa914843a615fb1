"""The head of the page and the tables of facts: the one number, the run, the catalogue."""

from typing import Any

from lgsid_ray.artifacts.frontier import ARMS, UNTRAINED
from lgsid_ray.report.inputs import Story
from lgsid_ray.report.markup import Markup, caption, flat, join, number, section, table, tag

GROUPS = {
    "all": "all items",
    "train": "training items",
    "held_place": "held out by place",
    "held_random": "held out at random",
}


def header(story: Story) -> Markup:
    """The one number, and what stands beside it; without coordinates there is none, and a sentence that says so."""
    metrics = story.metrics
    items = _card(number(metrics["items"]), "items with a semantic ID")
    if story.unlocated:
        return _head("Semantic IDs: what this run found", story.unlocated, [items])
    found = metrics["frontier"].get("all", {})
    rival = _strongest(found)
    arm = "aligned" if "aligned" in found.get("gap_closed", {}) else rival
    floor = f"{metrics['floor']:.0%} of origin's Similarity@5"
    subject = "of the geographic gap is closed by alignment" if arm == "aligned" else f"is closed by {ARMS[arm]}"
    cards = [_card(_share(story, "all", arm), f"{subject}, at {floor}{_missed(found, arm)}", "card first")]
    cards += [
        _card(_share(story, group, arm), f"{ARMS[arm]}, {GROUPS[group]}")
        for group in ("held_place", "held_random")
        if group in metrics["groups"]
    ]
    if arm == "aligned":
        told = f"{ARMS[rival]} at the same floor: the strongest rival without training"
        cards.append(_card(_share(story, "all", rival), told))
    lead = (
        "A gap of 0 is the untouched language model; 1 is an oracle that knows every district and re-ranks by it. "
        "Both, and every arm, are read where the same share of the model's meaning is left."
    )
    if arm != "aligned":
        vectors = "location texts fused into the" if "fuse" in story.manifests else "the"
        lead += f" This run aligned nothing: the semantic IDs rest on {vectors} reference embeddings."
    head = _head("Geographic semantic IDs: what this run found", lead, [*cards, items])
    reason = f"Why there is a dash: {found['reason']}." if "reason" in found else ""
    return join([head, caption(reason)]) if reason else head


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


def _strongest(found: dict[str, Any]) -> str:
    """The arm that closes most of the gap without training and without labels."""
    closed = found.get("gap_closed", {})
    known = [arm for arm in UNTRAINED if closed.get(arm) is not None]
    return max(known, key=lambda arm: float(closed[arm])) if known else UNTRAINED[0]


def _share(story: Story, group: str, arm: str) -> str:
    closed = story.metrics["frontier"].get(group, {}).get("gap_closed", {}).get(arm)
    return number(closed, 2)


def _missed(found: dict[str, Any], arm: str) -> str:
    point = found.get("arms", {}).get(arm)
    return "" if point is None or point["reached"] else " (the arm does not come down to the floor: a lower bound)"


def _card(value: str, text: str, classes: str = "card") -> Markup:
    return tag("div", tag("b", value), tag("span", text), classes=classes)
