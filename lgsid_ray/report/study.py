"""The page of a study: its table, as a section like those of a run's page."""

from collections.abc import Mapping, Sequence

from lgsid_ray.report.markup import Markup, caption, section, table, tag
from lgsid_ray.report.page import page


def study_page(
    title: str, columns: Sequence[str], rows: Sequence[Sequence[str]], failed: Mapping[str, str], notes: str = ""
) -> str:
    """HTML of a study.

    Args:
        rows: one per arm, its name first. failed: run → why it has no figures.
    """
    text = "A row is an arm: the base configuration with the arm's overrides, mean ± standard deviation over the seeds."
    parts = [table(["arm", *columns], rows), caption(f"{text} {notes}".strip())]
    if failed:
        parts += [tag("h3", "Without figures"), table(["run", "why"], list(failed.items()), text_columns=2)]
    head = Markup(f"<header>{tag('h1', title)}</header>")
    return page(title, head, {"table": section("table", "Table", *parts)}, {"table": "Table"})
