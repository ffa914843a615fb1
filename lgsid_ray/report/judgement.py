"""The page's tables on quality: gap closed, retrieval, clusters against labels, SID geography."""

from lgsid_ray.artifacts.frontier import ARMS
from lgsid_ray.artifacts.labels import LEVELS
from lgsid_ray.evaluate.table import CODEBOOK, FLOORS, between, strongest
from lgsid_ray.report.inputs import Story
from lgsid_ray.report.markup import Markup, caption, join, number, section, table, tag
from lgsid_ray.report.numbers import GROUPS, SAVED
from lgsid_ray.report.probes import probe_tables


def alignment_section(story: Story) -> Markup:
    """Gap closed, retrieval, clusters against labels."""
    return section(
        "alignment",
        "Alignment",
        tag("h3", f"Geographic gap closed at {story.metrics['floor']:.0%} of origin's Similarity@5"),
        _gap_table(story, "frontier"),
        caption(
            "Every arm is read at its best T@5 with at least that much Similarity@5 left, interpolated along its "
            "frontier and never extrapolated; an arm marked * does not come down to the floor, and its figure is a "
            "lower bound. Oracles and label fusion read labels; the others read what the model reads."
        ),
        *_content_gaps(story),
        tag("h3", "As saved"),
        _saved_table(story),
        caption(
            "What the run has saved, at the Similarity@5 that it keeps, beside the strongest arm that is neither "
            "trained nor told labels, read where it keeps as much. Alignment is worth its training where it stands "
            "above it, also on items that it never saw. Intervals hold 95 % of the draws of a bootstrap over whole "
            "districts, or over whole cities where those were held out."
        ),
        tag("h3", "Retrieval"),
        _retrieval_table(story),
        caption(
            "The K nearest items by cosine, the item itself left out: share in the same province (P@K), city (C@K) and "
            "district (T@K). Similarity is measured in the frozen reference space; ContentSimilarity with prompts "
            "that name no place. Median km is that of all items found by all queries; NDCG is by distance, with a gain "
            "of exp(−km / 5): 1 where the nearest of all items stand first."
        ),
        tag("h3", "Order by distance"),
        table(
            ["space", "in the own city", "everywhere"],
            [
                [row["space"], number(row["city"], 3), number(row["everywhere"], 3)]
                for row in story.metrics["distance_order"]
            ],
        ),
        caption(
            "Rank correlation of cosine and nearness, the mean over queries: among items of the query's city, and "
            "among items from anywhere. 1 is the order of the map; what no label tells is the order inside a city."
        ),
        *probe_tables(story),
        tag("h3", "Clusters against labels"),
        _cluster_table(story),
        caption(
            "K-Means clusters of the embeddings against the administrative labels. NMI flatters many small clusters; "
            "AMI is corrected for chance: 0 tells nothing, 1 is the labels themselves."
        ),
    )


def sid_tables(story: Story) -> Markup:
    """Geography of SID prefixes and the codebooks' figures."""
    kept = {row["prefix"]: row for row in story.metrics["sid_neighbours"] if row["space"] == "origin"}
    prefixes = [
        [
            f"first {row['prefix']} token{'s' if row['prefix'] > 1 else ''}",
            number(row["clusters"]),
            *(number(row[name], 3) for name in ("one_province", "one_city", "majority_province", "majority_city")),
            *(number(row[name], 1) for name in ("radius_km", "radius_km_items")),
            *(number(kept.get(row["prefix"], {}).get(name), 3) for name in ("recall", "chance")),
        ]
        for row in story.metrics["sid_geography"]
    ]
    head = ["prefix", "clusters", "in one province", "in one city", "majority province", "majority city"]
    book = story.metrics["codebook"]
    levels = [
        [str(level), *(number(row[name], digits) for name, digits in CODEBOOK.values())]
        for level, row in enumerate(book["levels"], start=1)
    ]
    return join(
        [
            table([*head, "radius km", "items' km", "neighbours kept", "by chance"], prefixes),
            caption(
                "Shares of the clusters behind a prefix that lie in one province or city; shares of the items that "
                "bear their cluster's commonest label; the median over clusters, and over items, of the great-circle "
                "distance to the cluster's centre; of the ten items most like an item by reference embeddings, the "
                "share that has its prefix, beside the share of all items that has it."
            ),
            tag("h3", "Codebooks"),
            table(["level", *CODEBOOK], levels),
            caption(
                f"{number(book['distinct_sids'])} SIDs for {number(book['items'])} items: a share of "
                f"{number(book['collision_rate'], 3)} has no SID of its own, and the largest SID has "
                f"{number(book['max_items_per_sid'])}. Perplexity is how many codes a level's use is worth, KL (nats) "
                "how far it is from even; error left is what the prefix up to there leaves of the embeddings' variance."
            ),
        ]
    )


def _content_gaps(story: Story) -> list[Markup]:
    if "content_frontier" not in story.metrics:
        return []
    return [
        tag("h3", f"Geographic gap closed at {story.metrics['floor']:.0%} of origin's ContentSimilarity@5"),
        _gap_table(story, "content_frontier"),
        caption(
            "The same where meaning is what prompts say without their place: full prompts are alike by their places "
            "too, so a floor on Similarity alone lets content go."
        ),
    ]


def _saved_table(story: Story) -> Markup:
    rows = []
    for group, spaces in story.metrics["saved"].items():
        for name, found in spaces.items():
            if name == "reason" or "kept" not in found:
                continue
            rival = strongest(found["gap_closed"]) or ""
            values = [found["kept"], found["content_kept"], found["saved"]]
            rows.append(
                [
                    GROUPS[group],
                    SAVED[name],
                    *(number(value, 3) for value in values),
                    between(found["saved_interval"]),
                    ARMS.get(rival, "–"),
                    number(found["gap_closed"].get(rival), 3),
                ]
            )
    head = ["queries", "saved", "Similarity kept", "content kept", "gap closed", "95 %", "strongest rival", "its gap"]
    return table(head, rows, text_columns=2)


def _gap_table(story: Story, floor: str) -> Markup:
    rows: list[list[str]] = []
    strong: list[int] = []
    for group, found in story.metrics[floor].items():
        name = GROUPS.get(group, group)
        if "arms" not in found:
            rows.append([name, found["reason"], *["–"] * 7])
            continue
        for arm in ("origin", *ARMS):
            point = found["origin"] if arm == "origin" else found["arms"].get(arm)
            if point is None:
                continue
            if arm == "aligned":
                strong.append(len(rows))
            closed = {"origin": 0.0, FLOORS[floor]: 1.0}.get(arm, found["gap_closed"].get(arm))
            sure = between(found["interval"].get(arm))
            values = [point.get(key) for key in ("district", "city", "province", "similarity", "content_similarity")]
            label = ARMS.get(arm, arm) + ("" if point.get("reached", True) else " *")
            rows.append([name, label, number(None if "reason" in found else closed, 3), sure, *map(number, values)])
    head = ["queries", "arm", "gap closed", "95 %", "T@5", "C@5", "P@5", "Similarity@5", "ContentSimilarity@5"]
    return table(head, rows, strong, text_columns=2)


def _retrieval_table(story: Story) -> Markup:
    order = list(story.metrics["groups"])
    found = sorted(story.metrics["retrieval"], key=lambda row: (order.index(row["group"]), row["k"]))
    measures = ("province", "city", "district", "similarity", "content_similarity")
    rows = [
        [
            GROUPS.get(row["group"], row["group"]),
            row["space"],
            number(row["k"]),
            *(number(row[name]) for name in measures),
            number(row["km"], 1),
            number(row["near"], 3),
        ]
        for row in found
    ]
    strong = [place for place, row in enumerate(found) if row["space"] != "origin"]
    head = ["queries", "space", "K", "P@K", "C@K", "T@K", "Similarity@K", "ContentSimilarity@K", "median km", "NDCG"]
    return table(head, rows, strong, text_columns=2)


def _cluster_table(story: Story) -> Markup:
    found = sorted(story.metrics["clustering"], key=lambda row: LEVELS.index(row["level"]))
    rows = [
        [r["level"], r["space"], number(r["labels"]), number(r["clusters"]), number(r["nmi"]), number(r["ami"])]
        for r in found
    ]
    strong = [place for place, row in enumerate(found) if row["space"] != "origin"]
    return table(["level", "space", "labels", "clusters", "NMI", "AMI"], rows, strong, text_columns=2)
