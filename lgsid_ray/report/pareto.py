"""The Pareto plot of a search: one self-contained HTML page."""

from typing import Any

import plotly.graph_objects as go
from plotly.subplots import make_subplots

_PAIRS = [
    ("meaning", "geography", "Similarity@5 (higher is better)", "T@5 (higher is better)"),
    ("collisions", "distortion", "share of items that share a SID (lower is better)", "distortion (lower is better)"),
]
_KINDS = [
    ("dominated", "#b8bec8", "circle", 8),
    ("on the front", "#0b6e99", "circle", 10),
    ("chosen", "#d1495b", "star", 16),
]


def pareto_page(trials: list[dict[str, Any]]) -> str:
    """HTML of the trials in both planes of objectives.

    Args:
        trials: each with the objectives `meaning`, `geography`, `collisions`, `distortion`, with `parameters`, and
            with the flags `pareto` and `best`.
    """
    figure = make_subplots(rows=1, cols=2, horizontal_spacing=0.1)
    for column, (x, y, x_title, y_title) in enumerate(_PAIRS, start=1):
        for kind, colour, symbol, size in _KINDS:
            members = [trial for trial in trials if _kind(trial) == kind]
            figure.add_scatter(
                x=[trial[x] for trial in members],
                y=[trial[y] for trial in members],
                mode="markers",
                name=kind,
                marker={"color": colour, "symbol": symbol, "size": size},
                text=[_describe(trial["parameters"]) for trial in members],
                hovertemplate="%{text}<br>%{x:.4f}, %{y:.4f}<extra></extra>",
                showlegend=column == 1,
                row=1,
                col=column,
            )
        figure.update_xaxes(title=x_title, row=1, col=column)
        figure.update_yaxes(title=y_title, row=1, col=column)
    figure.update_layout(
        template="plotly_white",
        height=520,
        title="Search: all trials; the front is taken over all four objectives at once",
    )
    return str(go.Figure(figure).to_html(include_plotlyjs=True, full_html=True))


def _kind(trial: dict[str, Any]) -> str:
    if trial["best"]:
        return "chosen"
    return "on the front" if trial["pareto"] else "dominated"


def _describe(parameters: dict[str, Any]) -> str:
    return ", ".join(f"{key} {value:.4g}" for key, value in parameters.items())
