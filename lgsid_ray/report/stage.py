"""The last stage: one self-contained HTML page. It runs on the driver and needs no Ray and no network."""

from functools import partial

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
from lgsid_ray.report.markup import Markup
from lgsid_ray.report.numbers import catalogue_section, header, run_section
from lgsid_ray.report.page import page
from lgsid_ray.report.recommenders import recommender_section

PAGE = "report.html"
TITLES = {
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
    """Write report.html from every finished stage of the run.

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
        file.write(page("LGSID run report", header(story), sections, TITLES).encode())
    return {"report": PAGE, "items_drawn": story.items.num_rows}
