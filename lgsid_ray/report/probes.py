"""The page's tables on texts that no catalogue holds."""

from typing import Any

from lgsid_ray.artifacts.frontier import ARMS
from lgsid_ray.artifacts.probes import DROPPED, RENAMED, SEARCH
from lgsid_ray.evaluate.table import between
from lgsid_ray.report.inputs import Story
from lgsid_ray.report.markup import Markup, caption, number, table, tag

SAVED = {
    "origin": "reference embeddings",
    "fused": "fused embeddings, as saved",
    "aligned": "the aligned model",
    "mixed": "reference and aligned embeddings, weighed",
    "told": "whitened text fusion, told the place apart",
}
PLACES = {"known": "districts it was taught", "held_place": "districts held out", "held_city": "cities held out"}


def probe_tables(story: Story) -> list[Markup]:
    """Free text, dropped places and exchanged names; nothing where no aligned encoder was asked."""
    found = story.probes
    if found is None:
        return []
    return [tables for name in (SEARCH, DROPPED, RENAMED) if found[name] for tables in TABLES[name](found)]


def _searched(found: dict[str, Any]) -> list[Markup]:
    rows = [
        [
            PLACES[row["group"]],
            _arm(row["arm"]),
            number(row["found"], 3),
            between(row["interval"]),
            *(number(row[name], 3) for name in ("kind", "district")),
            number(row["queries"]),
        ]
        for row in sorted(found[SEARCH], key=lambda row: list(PLACES).index(row["group"]))
    ]
    strong = [place for place, row in enumerate(rows) if row[1] == SAVED["aligned"]]
    return [
        tag("h3", "Free text"),
        table(["queries about", "arm", "found", "95 %", "of the kind", "in the district", "queries"], rows, strong, 2),
        caption(
            f"Queries as somebody types them, “{found['query']}”: of the five items found, the share that is both of "
            "the kind and in the district, beside as many as there are. What is saved keeps as much "
            "meaning as its floor says; the other arms have the weight that finds most in known districts, whatever "
            "that costs. One fusion is told apart where the query is meant, and knows more than the others."
        ),
    ]


def _dropped(found: dict[str, Any]) -> list[Markup]:
    rows = [
        [PLACES[row["group"]], _arm(row["arm"]), number(row["itself"], 3), number(row["district"], 3)]
        for row in sorted(found[DROPPED], key=lambda row: list(PLACES).index(row["group"]))
    ]
    return [
        tag("h3", "Without a place"),
        table(["items from", "arm", "finds itself", "others in its district"], rows, text_columns=2),
        caption(
            "Items whose prompt says no place look for five items: whether the same item with its place is among them, "
            "and the share of the others that lie in its district."
        ),
    ]


def _renamed(found: dict[str, Any]) -> list[Markup]:
    rows = [
        [_arm(row["arm"]), number(row["own_names"], 3), number(row["other_names"], 3), number(row["items"])]
        for row in found[RENAMED]
    ]
    return [
        tag("h3", "Districts that have exchanged their names"),
        table(["arm", "T@5, own names", "T@5, exchanged", "items"], rows),
        caption(
            "Among the items of some districts. What stays the same under other names knows that places have the same "
            "name, not where they are."
        ),
    ]


def _arm(name: str) -> str:
    return SAVED.get(name, ARMS.get(name, name))


TABLES = {SEARCH: _searched, DROPPED: _dropped, RENAMED: _renamed}
