"""The page's tables: the one number, the run, the catalogue, alignment, SIDs, recommenders."""

from typing import Any

from lgsid_ray.report.inputs import Story
from lgsid_ray.report.markup import Markup, caption, flat, join, number, section, table, tag

GROUPS = {
    "all": "all items",
    "train": "training items",
    "held_place": "held out by place",
    "held_random": "held out at random",
}
ARM_NAMES = {"aligned": "aligned", "late_fusion": "late fusion", "oracle": "oracle"}


def header(story: Story) -> Markup:
    """The one number, and what stands beside it."""
    metrics = story.metrics
    found = metrics["frontier"].get("all", {})
    arm = "aligned" if "aligned" in found.get("gap_closed", {}) else "late_fusion"
    floor = f"{metrics['floor']:.0%} of origin's Similarity@5"
    subject = "of the geographic gap is closed by alignment" if arm == "aligned" else "is closed by late fusion"
    cards = [_card(_share(story, "all", arm), f"{subject}, at {floor}{_missed(found, arm)}", "card first")]
    cards += [
        _card(_share(story, group, arm), f"{ARM_NAMES[arm]}, {GROUPS[group]}")
        for group in ("held_place", "held_random")
        if group in metrics["groups"]
    ]
    if arm == "aligned":
        cards.append(_card(_share(story, "all", "late_fusion"), "late fusion at the same floor, no training"))
    cards.append(_card(number(metrics["items"]), "items with a semantic ID"))
    lead = (
        "A gap of 0 is the untouched language model; 1 is an oracle that knows every district and re-ranks by it. "
        "Both, and every arm, are read where the same share of the model's meaning is left."
    )
    if arm != "aligned":
        lead += " This run aligned nothing: the semantic IDs rest on the reference embeddings."
    reason = tag("p", f"Why there is a dash: {found['reason']}.", classes="caption") if "reason" in found else Markup()
    return join(
        [
            tag("h1", "Geographic semantic IDs: what this run found"),
            tag("p", lead, classes="lead"),
            Markup(f'<div class="cards">{join(cards)}</div>'),
            reason,
        ]
    )


def run_section(story: Story) -> Markup:
    """Stages with seconds, rows and memory; where the configuration stands."""
    rows = []
    for name, manifest in story.manifests.items():
        facts = ", ".join(f"{key} {number(value)}" for key, value in flat(manifest["facts"])[:4])
        seconds = number(float(manifest["seconds"]), 1)
        rows.append([name, facts, seconds, number(float(manifest["peak_memory_mb"]), 0), manifest["fingerprint"]])
    total = sum(float(manifest["seconds"]) for manifest in story.manifests.values())
    last = max(manifest["finished"] for manifest in story.manifests.values())
    versions = sorted({manifest["code"] for manifest in story.manifests.values()})
    return section(
        "run",
        "The run",
        table(["stage", "first facts", "seconds", "peak MiB", "fingerprint"], rows, text_columns=2),
        caption(
            f"{number(total, 0)} seconds in all; last stage before this page finished {last}; lgsid_ray "
            f"{', '.join(versions)}; seed {story.metrics['seed']}. Peak memory is that of the driver and all "
            "processes below it, shared pages counted once. A fingerprint covers a stage's settings and inputs."
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


def alignment_section(story: Story) -> Markup:
    """Gap closed, retrieval, clusters against labels."""
    return section(
        "alignment",
        "Alignment",
        tag("h3", f"Geographic gap closed at {story.metrics['floor']:.0%} of origin's Similarity@5"),
        _gap_table(story),
        caption(
            "Every arm is read at its best T@5 with at least that much Similarity@5 left, interpolated along its "
            "frontier and never extrapolated; an arm marked * does not come down to the floor, and its figure is a "
            "lower bound. Alignment is worth its training where it stands above late fusion, also on items that "
            "it never saw."
        ),
        tag("h3", "Retrieval"),
        _retrieval_table(story),
        caption(
            "The K nearest items by cosine, the item itself left out: share in the same province (P@K), city (C@K) and "
            "district (T@K). Similarity is measured in the frozen reference space; ContentSimilarity with prompts "
            "that name no place."
        ),
        tag("h3", "Clusters against labels"),
        _cluster_table(story),
        caption(
            "K-Means clusters of the embeddings against the administrative labels. NMI flatters many small clusters; "
            "AMI is corrected for chance: 0 tells nothing, 1 is the labels themselves."
        ),
    )


def sid_tables(story: Story) -> Markup:
    """Geography of SID prefixes and the codebooks' figures."""
    prefixes = [
        [
            f"first {row['prefix']} token{'s' if row['prefix'] > 1 else ''}",
            number(row["clusters"]),
            *(number(row[name], 3) for name in ("one_province", "one_city", "majority_province", "majority_city")),
            *(number(row[name], 1) for name in ("radius_km", "radius_km_items")),
        ]
        for row in story.metrics["sid_geography"]
    ]
    head = ["prefix", "clusters", "in one province", "in one city", "majority province", "majority city"]
    books = [[name, number(value)] for name, value in flat(story.metrics["codebook"])[:60]]
    return join(
        [
            table([*head, "radius km", "items' km"], prefixes),
            caption(
                "Shares of the clusters behind a prefix that lie in one province or city; shares of the items that "
                "bear their cluster's commonest label; the median over clusters, and over items, of the great-circle "
                "distance to the cluster's centre."
            ),
            tag("h3", "Codebooks"),
            table(["figure", "value"], books),
        ]
    )


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
        if name.endswith("/lgsid"):
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


def _gap_table(story: Story) -> Markup:
    rows: list[list[str]] = []
    strong: list[int] = []
    for group, found in story.metrics["frontier"].items():
        name = GROUPS.get(group, group)
        if "arms" not in found:
            rows.append([name, found["reason"], *["–"] * 6])
            continue
        for arm in ("origin", *ARM_NAMES):
            point = found["origin"] if arm == "origin" else found["arms"].get(arm)
            if point is None:
                continue
            if arm == "aligned":
                strong.append(len(rows))
            closed = {"origin": 0.0, "oracle": 1.0}.get(arm, found["gap_closed"].get(arm))
            values = [point.get(key) for key in ("district", "city", "province", "similarity", "content_similarity")]
            label = ARM_NAMES.get(arm, arm) + ("" if point.get("reached", True) else " *")
            rows.append([name, label, number(None if "reason" in found else closed, 3), *map(number, values)])
    head = ["queries", "arm", "gap closed", "T@5", "C@5", "P@5", "Similarity@5", "ContentSimilarity@5"]
    return table(head, rows, strong, text_columns=2)


def _retrieval_table(story: Story) -> Markup:
    order = list(story.metrics["groups"])
    found = sorted(story.metrics["retrieval"], key=lambda row: (order.index(row["group"]), row["k"]))
    measures = ("province", "city", "district", "similarity", "content_similarity")
    rows = [
        [GROUPS.get(row["group"], row["group"]), row["space"], number(row["k"]), *(number(row[m]) for m in measures)]
        for row in found
    ]
    strong = [place for place, row in enumerate(found) if row["space"] == "aligned"]
    head = ["queries", "space", "K", "P@K", "C@K", "T@K", "Similarity@K", "ContentSimilarity@K"]
    return table(head, rows, strong, text_columns=2)


def _cluster_table(story: Story) -> Markup:
    levels = ["province", "city", "district"]
    found = sorted(story.metrics["clustering"], key=lambda row: levels.index(row["level"]))
    rows = [
        [r["level"], r["space"], number(r["labels"]), number(r["clusters"]), number(r["nmi"]), number(r["ami"])]
        for r in found
    ]
    strong = [place for place, row in enumerate(found) if row["space"] == "aligned"]
    return table(["level", "space", "labels", "clusters", "NMI", "AMI"], rows, strong, text_columns=2)


def _with_spread(mean: float | None, deviation: float | None) -> str:
    return number(mean) if mean is None or deviation is None else f"{number(mean)} ± {number(deviation)}"


def _share(story: Story, group: str, arm: str) -> str:
    closed = story.metrics["frontier"].get(group, {}).get("gap_closed", {}).get(arm)
    return number(closed, 2)


def _missed(found: dict[str, Any], arm: str) -> str:
    point = found.get("arms", {}).get(arm)
    return "" if point is None or point["reached"] else " (the arm does not come down to the floor: a lower bound)"


def _card(value: str, text: str, classes: str = "card") -> Markup:
    return tag("div", tag("b", value), tag("span", text), classes=classes)
