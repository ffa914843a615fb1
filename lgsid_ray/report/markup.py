"""HTML pieces. Text goes in unescaped and comes out escaped; what is already HTML is a `Markup`."""

import html
import json
import re
from collections.abc import Iterable, Sequence
from typing import Any


class Markup(str):
    """Text that is HTML already."""


def escape(value: Any) -> Markup:
    """Any value as safe HTML text."""
    return value if isinstance(value, Markup) else Markup(html.escape(str(value), quote=True))


def join(parts: Iterable[Markup]) -> Markup:
    """Pieces one after another."""
    return Markup("\n".join(parts))


def tag(name: str, *content: Any, classes: str = "") -> Markup:
    """An element with escaped content."""
    attribute = f' class="{html.escape(classes)}"' if classes else ""
    return Markup(f"<{name}{attribute}>{''.join(escape(part) for part in content)}</{name}>")


def caption(text: str) -> Markup:
    """A line that tells the reader how to read what stands above it."""
    return tag("p", text, classes="caption")


def section(anchor: str, title: str, *content: Markup) -> Markup:
    """A part of the page with a heading and an anchor."""
    return Markup(f'<section id="{html.escape(anchor)}"><h2>{html.escape(title)}</h2>{join(content)}</section>')


def table(
    head: Sequence[str], rows: Iterable[Sequence[Any]], strong: Iterable[int] = (), text_columns: int = 1
) -> Markup:
    """A table; the first `text_columns` columns are text, the rest figures. `strong`: rows that stand out."""
    bold = set(strong)

    def cells(row: Sequence[Any], name: str) -> str:
        return "".join(tag(name, cell, classes="" if place < text_columns else "n") for place, cell in enumerate(row))

    body = "".join(
        f'<tr class="strong">{cells(row, "td")}</tr>' if number in bold else f"<tr>{cells(row, 'td')}</tr>"
        for number, row in enumerate(rows)
    )
    return Markup(
        f'<div class="scroll"><table><thead><tr>{cells(head, "th")}</tr></thead><tbody>{body}</tbody></table></div>'
    )


def figure(name: str, plot: Any, height: int) -> Markup:
    """A Plotly figure as data; the page's one script draws it. `<` is escaped so that no text can end the script."""
    data = json.loads(plot.to_json())
    # The template is most of a figure's bytes and the same for all: the page holds it once.
    data["layout"].pop("template", None)
    text = json.dumps(data, ensure_ascii=True).replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
    anchor = "plot-" + re.sub(r"[^A-Za-z0-9_-]", "-", name)
    return Markup(
        f'<div class="plot" id="{anchor}" style="height:{height}px"></div>'
        f'<script type="application/json" class="figure" data-for="{anchor}">{text}</script>'
    )


def number(value: Any, digits: int = 4) -> str:
    """A figure for a table; a dash where it is not known."""
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}".replace(",", "\u202f")
    return f"{value:.{digits}f}" if isinstance(value, float) else str(value)


def flat(tree: Any, prefix: str = "") -> list[tuple[str, Any]]:
    """Every leaf of a nested JSON value with its path, `a / b [1]`."""
    if isinstance(tree, dict):
        return [pair for key, value in tree.items() for pair in flat(value, f"{prefix} / {key}" if prefix else key)]
    if isinstance(tree, list):
        return [pair for place, value in enumerate(tree, 1) for pair in flat(value, f"{prefix} [{place}]")]
    return [(prefix, tree)]
