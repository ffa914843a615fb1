"""The page's figures in their sections, each with a line on how to read it; and samples of the SIDs."""

from collections import Counter
from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from sklearn.manifold import TSNE

from lgsid_ray.arrays import Float32, Float64, Int64
from lgsid_ray.artifacts.labels import LEVELS, SEPARATOR, label_paths
from lgsid_ray.report import figures
from lgsid_ray.report.inputs import Story
from lgsid_ray.report.judgement import sid_tables
from lgsid_ray.report.markup import Markup, caption, escape, figure, join, section, tag
from lgsid_ray.report.numbers import GROUPS

PLANE_POINTS = 1000
"""t-SNE takes seconds for so many, and minutes for many more."""
BRANCHES, EXAMPLES = (5, 3), 4
"""First tokens shown, second tokens under each, names under each of those."""


def frontier_section(story: Story) -> Markup:
    """One frontier plot per group."""
    if story.unlocated:
        return section("frontier", "Geography against meaning", tag("p", story.unlocated))
    plots = []
    for group, found in story.metrics["frontier"].items():
        rows = [row for row in story.frontier if row["group"] == group]
        if rows:
            plot = figure(f"frontier-{group}", figures.frontier(rows, found), 500)
            plots.append(Markup(f"<div>{tag('h3', 'Queries: ' + GROUPS.get(group, group))}{plot}</div>"))
    if not plots:
        return section("frontier", "Geography against meaning", tag("p", "Too few items for frontiers."))
    return section(
        "frontier",
        "Geography against meaning",
        Markup(f'<div class="pair">{join(plots)}</div>'),
        caption(
            "Up is more geography, right is more meaning kept. Every line begins at origin; the oracle is the upper "
            "limit. At the floor (vertical line) compare the height of the arms: that height, from origin to oracle, "
            "is the gap closed. Beyond α = 1 the aligned line extrapolates past the trained model."
        ),
    )


def curves_section(story: Story) -> Markup:
    """Training curves of every stage that kept a history."""
    parts = []
    for stage, history in story.histories.items():
        found = figures.curves(history)
        if found:
            parts += [tag("h3", story.manifests[stage]["stage"]), figure(f"curves-{stage}", *found)]
    if not parts:
        return section("curves", "Training", tag("p", "No stage of this run kept a training curve."))
    text = (
        "One panel per figure over training steps (or epochs); each has its own vertical scale. Long curves are "
        "averaged over spans of steps. Hover for values."
    )
    return section("curves", "Training", *parts, caption(text))


def map_section(story: Story) -> Markup:
    """The map of first tokens: all of it, and the city with the most items. Only where there are coordinates."""
    whole = _map(story, story.items, "all items")
    paths = label_paths(story.items, LEVELS.index("city") + 1)
    busiest = max(sorted(Counter(paths.to_pylist()).items()), key=lambda pair: pair[1])[0]
    inside = story.items.filter(pc.equal(paths, busiest))
    closer = _map(story, inside, f"the busiest city: {busiest.rpartition(SEPARATOR)[2]}", "map-city")
    return section(
        "map",
        "First tokens on the map",
        whole if inside.num_rows == story.items.num_rows else join([whole, closer]),
        caption(
            f"{story.items.num_rows} of {len(story.tokens)} items at their places. Colour and shape stand for the "
            "first token: a geographic tokenizer draws patches, one without geography draws confetti. There are more "
            "tokens than colours, so distant patches may look alike; hover for name and SID, drag to zoom, "
            "double-click to return."
        ),
    )


def _map(story: Story, items: pa.Table, title: str, name: str = "map") -> Markup:
    lat, lon = (items.column(axis).to_numpy() for axis in ("lat", "lon"))
    token = story.tokens[items.column("item_index").to_numpy(), 0]
    return figure(name, figures.world_map(lat, lon, token, _hover(items, story.tokens), str(escape(title))), 480)


def plane_section(story: Story, seed: int) -> Markup:
    """t-SNE of the embeddings before and after, coloured by the coarsest label, or category, that tells items apart."""
    items = story.items.take(pa.array(story.drawn))
    apart = (name for name in (*LEVELS, "category_1") if len(items.column(name).unique()) > 1)
    level = next(apart, LEVELS[-1])
    label, hover = items.column(level).to_pylist(), _hover(items, story.tokens)
    titles = {
        "origin": "before: reference embeddings",
        "fused": "after: location texts fused in",
        "aligned": "after: aligned embeddings",
    }
    plots = [
        figure(f"plane-{name}", figures.plane(project(vectors, seed), label, hover, titles[name]), 480)
        for name, vectors in story.vectors.items()
        if len(vectors) >= 5
    ]
    if not plots:
        return section("plane", "Embeddings before and after", tag("p", "Too few items for a plane."))
    return section(
        "plane",
        "Embeddings before and after",
        Markup(f'<div class="pair">{join(plots)}</div>'),
        caption(
            f"t-SNE of {len(label)} items, coloured by {level}. Afterwards, colours should gather without the "
            "plane falling into one blob per place: that would be geography without meaning. Distances between far "
            "clusters, and their sizes, mean nothing in t-SNE."
        ),
    )


def sid_section(story: Story, names: Callable[[Int64], dict[int, str]]) -> Markup:
    """Geography of prefixes, codebooks, usage, and a sample of the tree; `names` looks item names up."""
    sizes = story.manifests["tokenise"]["facts"]["sizes"]
    counts = [np.bincount(column, minlength=size) for column, size in zip(story.tokens.T, sizes, strict=True)]
    return section(
        "sids",
        "Semantic IDs",
        sid_tables(story),
        tag("h3", "Codebook usage"),
        figure("usage", figures.usage(counts), 300),
        caption("Items per code. A flat shape uses the codebook evenly; bars at zero are dead codes."),
        tag("h3", "What stands behind a prefix"),
        _tree(story.tokens, names),
        caption("The largest first tokens, the largest second tokens under each, and the first items of those."),
    )


def project(vectors: Float32, seed: int) -> Float64:
    """(n, 2) t-SNE plane of at least two vectors, seeded, begun from the principal components."""
    centred = vectors - vectors.mean(axis=0)
    _, values, axes = np.linalg.svd(centred, full_matrices=False)
    start = centred @ axes[:2].T / max(float(values[0]), 1e-6) * np.sqrt(len(vectors))
    # Without a little noise equal vectors would start at one point, and scikit-learn's tree cannot bear that for all.
    start = start + 1e-2 * np.random.default_rng(seed).normal(size=start.shape)
    perplexity = min(30.0, (len(vectors) - 1) / 3)
    model = TSNE(2, perplexity=perplexity, max_iter=500, init=(1e-4 * start).astype(np.float32), random_state=seed)
    # Tenths are below a pixel, and halve the page's bytes.
    return np.round(model.fit_transform(vectors).astype(np.float64), 1)


def _hover(items: pa.Table, tokens: Int64) -> list[str]:
    columns = [items.column(name).to_pylist() for name in ("name", "category_1", "district", "city", "item_index")]
    return [
        f"{name} · {', '.join(part for part in (category, district, city) if part)} · {_sid(tokens[index])}"
        for name, category, district, city, index in zip(*columns, strict=True)
    ]


def _sid(tokens: Int64) -> str:
    return "".join(f"<{chr(ord('a') + level)}_{token}>" for level, token in enumerate(tokens.tolist()))


def _tree(tokens: Int64, names: Callable[[Int64], dict[int, str]]) -> Markup:
    """The largest prefixes with the first items behind them."""
    leaves: list[tuple[int, int, list[tuple[int, Int64]]]] = []
    for first, rows in _largest(tokens[:, 0], np.arange(len(tokens)), BRANCHES[0]):
        second = tokens[rows, min(1, tokens.shape[1] - 1)]
        leaves.append((first, len(rows), _largest(second, rows, BRANCHES[1])))
    shown = [rows[:EXAMPLES] for _, _, branches in leaves for _, rows in branches]
    known = names(np.concatenate(shown))
    parts: list[Markup] = []
    for first, size, branches in leaves:
        inner = [
            join(
                [
                    tag("div", tag("code", _sid(tokens[rows[0], :2])), f" {len(rows)} items"),
                    tag("ul", *(tag("li", known[item]) for item in rows[:EXAMPLES].tolist())),
                ]
            )
            for _, rows in branches
        ]
        summary = tag("summary", tag("code", f"<a_{first}>"), f" {size} items")
        parts.append(Markup(f"<details{'' if parts else ' open'}>{summary}{join(inner)}</details>"))
    return join(parts)


def _largest(codes: Int64, rows: Int64, count: int) -> list[tuple[int, Int64]]:
    """The commonest codes, the lower first among equals, each with its rows."""
    found, sizes = np.unique(codes, return_counts=True)
    order = np.lexsort((found, -sizes))[:count]
    return [(int(code), rows[codes == code]) for code in found[order]]
