"""The frame of every page: one file that holds its style, its sections and Plotly, and loads nothing."""

import json
from collections.abc import Mapping
from importlib.resources import files
from string import Template

import plotly.io
from plotly.offline import get_plotlyjs

from lgsid_ray.report.markup import Markup, escape, join


def page(title: str, head: Markup, sections: Mapping[str, Markup], titles: Mapping[str, str]) -> str:
    """The whole document.

    Args:
        sections: anchor → section; an empty one is left out. titles: anchor → its link's text.
    """
    room = files("lgsid_ray.report")
    links = join([Markup(f'<a href="#{name}">{titles[name]}</a>') for name, content in sections.items() if content])
    return Template(room.joinpath("page.html").read_text(encoding="utf-8")).substitute(
        title=escape(title),
        css=room.joinpath("page.css").read_text(encoding="utf-8"),
        header=join([head, Markup(f"<nav>{links}</nav>")]),
        sections=join(sections.values()),
        footer="Written by lgsid_ray. One file that loads nothing: it can be mailed, archived and opened offline.",
        plotly=get_plotlyjs(),
        template=json.dumps(plotly.io.templates["plotly_white"].to_plotly_json()).replace("<", "\\u003c"),
    )
