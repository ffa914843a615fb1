"""The last stage: one self-contained HTML page. It runs on the driver and needs no Ray and no network."""

import json
from collections.abc import Mapping
from functools import partial
from importlib.resources import files
from string import Template

import plotly.io
from plotly.offline import get_plotlyjs

from lgsid_ray.config import RunConfig
from lgsid_ray.execution.stage import Facts, Inputs
from lgsid_ray.execution.storage import StageDir
from lgsid_ray.report.exhibits import (
    PLANE_POINTS,
    curves_section,
    frontier_section,
    map_section,
    plane_section,
    sid_section,
)
from lgsid_ray.report.inputs import read_names, read_story
from lgsid_ray.report.judgement import alignment_section
from lgsid_ray.report.markup import Markup, join
from lgsid_ray.report.numbers import catalogue_section, header, run_section
from lgsid_ray.report.recommenders import recommender_section

PAGE = "report.html"
LINKS = {
    "frontier": "Frontier",
    "alignment": "Alignment",
    "map": "Map",
    "sids": "Semantic IDs",
    "plane": "Embeddings",
    "recommenders": "Recommenders",
    "curves": "Training",
    "catalogue": "Catalogue",
    "run": "Run",
}


def report(config: RunConfig, inputs: Inputs, out: StageDir) -> Facts:
    """Write report.html from every finished stage of the run but the cells of `rank` and `generate`.

    Map and t-SNE show a sample of the items (`report.points`); tables are over all of them. Item names and all
    other text of the catalogue are escaped, and the page forbids itself the network.
    """
    story = read_story(inputs, config.report.points, PLANE_POINTS)
    seed = story.metrics["seed"] % 2**32
    sections = {
        "frontier": frontier_section(story),
        "alignment": alignment_section(story),
        "map": Markup() if story.unlocated else map_section(story),
        "sids": sid_section(story, partial(read_names, inputs["catalogue"])),
        "plane": plane_section(story, seed),
        "recommenders": recommender_section(story),
        "curves": curves_section(story),
        "catalogue": catalogue_section(story),
        "run": run_section(story),
    }
    with out.write(PAGE) as file:
        file.write(page(header(story), sections).encode())
    return {"report": PAGE, "items_drawn": story.items.num_rows}


def page(head: Markup, sections: Mapping[str, Markup]) -> str:
    """The whole document: the template filled with its style, its sections (by anchor) and Plotly itself, once."""
    room = files("lgsid_ray.report")
    links = join([Markup(f'<a href="#{name}">{LINKS[name]}</a>') for name, content in sections.items() if content])
    return Template(room.joinpath("page.html").read_text(encoding="utf-8")).substitute(
        title="LGSID run report",
        css=room.joinpath("page.css").read_text(encoding="utf-8"),
        header=join([head, Markup(f"<nav>{links}</nav>")]),
        sections=join(sections.values()),
        footer="Written by lgsid_ray. One file that loads nothing: it can be mailed, archived and opened offline.",
        plotly=get_plotlyjs(),
        template=json.dumps(plotly.io.templates["plotly_white"].to_plotly_json()).replace("<", "\\u003c"),
    )
