"""The page's figures. Colours are Okabe and Ito's, which the colour-blind tell apart; shapes say it once more."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go
from numpy.typing import NDArray
from plotly.subplots import make_subplots

from lgsid_ray.arrays import Int64
from lgsid_ray.artifacts.frontier import ARMS
from lgsid_ray.report.markup import escape

PALETTE = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#D55E00", "#56B4E9", "#8C6BB1", "#6B8E23", "#B0A000", "#444C5C")
SYMBOLS = ("circle", "square", "diamond", "triangle-up", "cross", "star")
GREY = "#B8BEC8"
CURVE_POINTS = 300
"""Of one training curve; longer ones are averaged over spans."""
LINES = {
    "oracle": ("#444C5C", "dot"),
    "content_oracle": ("#9AA0A6", "dot"),
    "levels": ("#8C6BB1", "dot"),
    "content_fusion": ("#A6611A", "dash"),
    "whitened_fusion": ("#D55E00", "dash"),
    "whitened_all": ("#F0A07C", "dash"),
    "text_fusion": ("#E69F00", "dash"),
    "label_fusion": ("#CC79A7", "dash"),
    "late_fusion": ("#6B8E23", "dash"),
    "distance_kernel": ("#009E73", "dashdot"),
    "log_distance": ("#56B4E9", "dashdot"),
    "aligned": ("#0072B2", "solid"),
}
"""Colour and stroke of every arm: dotted with labels at query time, dashed and dash-dotted without training."""
FONT = {"family": "system-ui, -apple-system, Segoe UI, Roboto, sans-serif", "size": 13, "color": "#1d2430"}
MARGIN = {"l": 56, "r": 16, "t": 34, "b": 48}


def frontier(rows: Sequence[Mapping[str, Any]], found: Mapping[str, Any]) -> go.Figure:
    """T@5 over Similarity@5 of one group: the arms, origin, the trained model and the floor."""
    plot = go.Figure()
    for arm, (colour, dash) in LINES.items():
        points = [row for row in rows if row["arm"] == arm and row["district"] is not None]
        if points:
            plot.add_scatter(
                x=[row["similarity"] for row in points],
                y=[row["district"] for row in points],
                name=ARMS[arm],
                mode="lines+markers",
                line={"color": colour, "dash": dash, "width": 2},
                marker={"size": 4},
                text=[f"{row['knob']:.4g}" for row in points],
                hovertemplate="knob %{text}<br>Similarity@5 %{x:.4f}<br>T@5 %{y:.4f}<extra></extra>",
            )
        if arm == "aligned":
            model = [row for row in points if row["knob"] == 1.0]
            _mark(plot, model, "the trained model (α = 1)", "star", "#0072B2", 15)
    if "origin" in found:
        _mark(plot, [found["origin"]], "origin", "circle", "#1d2430", 11)
        plot.add_vline(
            x=found["bound"], line={"color": "#D55E00", "width": 1.5}, annotation_text="semantic floor",
            annotation_position="bottom left", annotation_font={"color": "#D55E00", "size": 12},
        )  # fmt: skip
    plot.update_layout(
        margin=MARGIN, font=FONT, legend={"orientation": "h", "y": -0.2},
        xaxis={"title": {"text": "Similarity@5 in the frozen reference space →"}, "range": _window(rows, found)},
        yaxis={"title": {"text": "T@5 (same district) →"}, "rangemode": "tozero"},
    )  # fmt: skip
    return plot


def _window(rows: Sequence[Mapping[str, Any]], found: Mapping[str, Any]) -> list[float] | None:
    """The part of the x axis where arms are compared: late fusion's tail goes on far to the left of it."""
    if "origin" not in found:
        return None
    origin, floor = found["origin"]["similarity"], found["bound"]
    model = [row["similarity"] for row in rows if row["arm"] == "aligned" and row["knob"] == 1.0]
    left = min([floor - 1.5 * (origin - floor), origin - 0.05, *model])
    return [left - 0.06 * (origin - left), origin + 0.06 * (origin - left)]


def _mark(plot: go.Figure, rows: Sequence[Mapping[str, Any]], name: str, symbol: str, colour: str, size: int) -> None:
    plot.add_scatter(
        x=[row["similarity"] for row in rows], y=[row["district"] for row in rows], mode="markers", name=name,
        marker={"symbol": symbol, "color": colour, "size": size, "line": {"color": "white", "width": 1}},
        hovertemplate=name + "<br>Similarity@5 %{x:.4f}<br>T@5 %{y:.4f}<extra></extra>",
    )  # fmt: skip


def curves(history: Sequence[Mapping[str, Any]]) -> tuple[go.Figure, int] | None:
    """Training curves, one small panel per figure in the history, and the height of the whole; None: no numbers."""
    names: list[str] = []
    for row in history:
        names += [name for name, value in row.items() if name not in _AXES and name not in names and _is_number(value)]
    if not names:
        return None
    names = names[:24]
    columns = min(3, len(names))
    lines = -(-len(names) // columns)
    plot = make_subplots(
        rows=lines, cols=columns, subplot_titles=[str(escape(name)) for name in names],
        horizontal_spacing=0.07, vertical_spacing=min(0.3, 0.24 / lines),
    )  # fmt: skip
    for place, name in enumerate(names):
        points = thin([(_time(row, at), row[name]) for at, row in enumerate(history) if _is_number(row.get(name))])
        few = len(points) < 30
        plot.add_scatter(
            x=[x for x, _ in points], y=[y for _, y in points], showlegend=False, row=place // columns + 1,
            col=place % columns + 1, mode="lines+markers" if few else "lines", marker={"size": 5},
            line={"color": "#0072B2", "width": 1.5}, hovertemplate="%{x}: %{y:.5g}<extra></extra>",
        )  # fmt: skip
    plot.update_layout(margin={"l": 44, "r": 12, "t": 30, "b": 30}, font=FONT | {"size": 11})
    plot.update_annotations(font={"size": 12})
    return plot, 60 + 190 * lines


def thin(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """At most `CURVE_POINTS` points: means over equal runs of them, each at the end of its run."""
    span = -(-len(points) // CURVE_POINTS)
    runs = [points[begin : begin + span] for begin in range(0, len(points), max(1, span))]
    return [(run[-1][0], float(np.mean([y for _, y in run]))) for run in runs]


_AXES = ("step", "epoch", "iteration")


def _time(row: Mapping[str, Any], place: int) -> Any:
    return next((row[name] for name in _AXES if name in row), place)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def world_map(lat: NDArray, lon: NDArray, token: NDArray, hover: Sequence[str], title: str) -> go.Figure:
    """Items at their places, coloured by first token; longitude is shrunk by the cosine of the middle latitude."""
    codes = np.unique(token, return_inverse=True)[1]
    plot = go.Figure(
        go.Scatter(
            x=lon, y=lat, mode="markers", text=[str(escape(text)) for text in hover], customdata=token,
            marker={
                "size": 6, "opacity": 0.8, "color": [PALETTE[code % len(PALETTE)] for code in codes],
                "symbol": [SYMBOLS[code // len(PALETTE) % len(SYMBOLS)] for code in codes],
            },
            hovertemplate="%{text}<br>first token %{customdata}<extra></extra>",
        )
    )  # fmt: skip
    stretch = 1 / max(0.1, float(np.cos(np.radians((lat.min() + lat.max()) / 2))))
    plot.update_layout(
        margin=MARGIN, font=FONT, showlegend=False, title={"text": title, "font": {"size": 14}},
        xaxis={"title": {"text": "longitude, degrees"}, "zeroline": False},
        yaxis={"title": {"text": "latitude, degrees"}, "zeroline": False, "scaleanchor": "x", "scaleratio": stretch},
    )  # fmt: skip
    return plot


def plane(points: NDArray, label: Sequence[str | None], hover: Sequence[str], title: str) -> go.Figure:
    """A t-SNE plane, coloured by label: the commonest labels have colours, the rest is grey."""
    common = [name for name, _ in Counter(name for name in label if name is not None).most_common(len(PALETTE))]
    plot = go.Figure()
    for name in [None, *common]:
        rows = [row for row, own in enumerate(label) if own == name or (name is None and own not in common)]
        if rows:
            colour = GREY if name is None else PALETTE[common.index(name)]
            plot.add_scatter(
                x=points[rows, 0], y=points[rows, 1], mode="markers", marker={"size": 5, "color": colour},
                name="others" if name is None else str(escape(name)),
                text=[str(escape(hover[row])) for row in rows], hovertemplate="%{text}<extra></extra>",
            )  # fmt: skip
    hidden = {"showticklabels": False, "zeroline": False, "showgrid": False}
    plot.update_layout(
        margin={"l": 8, "r": 8, "t": 34, "b": 8}, font=FONT, title={"text": title, "font": {"size": 14}},
        xaxis=hidden, yaxis=hidden | {"scaleanchor": "x"},
        legend={"orientation": "h", "y": -0.03, "font": {"size": 11}},
    )  # fmt: skip
    return plot


def usage(counts: Sequence[Int64]) -> go.Figure:
    """Items per code of each level, codes sorted by size; unused codes are zero."""
    plot = make_subplots(rows=1, cols=len(counts), subplot_titles=[f"level {n}" for n in range(1, len(counts) + 1)])
    for level, count in enumerate(counts, 1):
        plot.add_bar(
            x=np.arange(1, len(count) + 1), y=np.sort(count)[::-1], marker={"color": "#0072B2"}, row=1, col=level,
            hovertemplate="code number %{x} by size: %{y} items<extra></extra>",
        )  # fmt: skip
    plot.update_layout(margin=MARGIN | {"l": 44}, font=FONT, showlegend=False, bargap=0.05)
    plot.update_xaxes(title={"text": "codes, largest first"})
    plot.update_yaxes(title={"text": "items"}, col=1)
    return plot
