"""A study's table: arms by measures, mean and standard deviation over the seeds, other people's rows beside ours."""

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pyarrow as pa
from scipy.stats import spearmanr

from lgsid_ray.artifacts.table import Table
from lgsid_ray.execution.storage import StageDir
from lgsid_ray.report.study import study_page
from lgsid_ray.studies.runs import Outcome


class Figures(Table):
    """Every single figure of a study, to compute with."""

    name: ClassVar = "table.parquet"
    schema: ClassVar = pa.schema(
        [("arm", pa.string()), ("seed", pa.int64()), ("measure", pa.string()), ("value", pa.float64())]
    )
    key: ClassVar = "arm"


@dataclass(frozen=True)
class Mean:
    """Of one arm's measure over the seeds, with its standard deviation."""

    mean: float
    deviation: float | None
    """None where there is one seed, or the row is not ours."""

    def __str__(self) -> str:
        spread = "" if self.deviation is None else f" ± {self.deviation:.3f}"
        return f"{self.mean:.3f}{spread}"


@dataclass(frozen=True)
class Summary:
    """The table: row → column → mean, or None where nothing was measured."""

    title: str
    columns: Sequence[str]
    rows: Mapping[str, Mapping[str, Mean | None]]
    failed: dict[str, str]
    """Run, or column → why it has no figures."""
    agreement: list[str]
    """What is told of columns that order the arms alike."""

    def texts(self) -> list[list[str]]:
        """Rows of text, the arm first, a dash where nothing was measured."""
        return [[name, *(str(row[column] or "–") for column in self.columns)] for name, row in self.rows.items()]


def summarise(
    title: str,
    columns: Sequence[str],
    outcomes: Sequence[Outcome],
    beside: Mapping[str, Mapping[str, float]],
    agreement: Sequence[tuple[str, str]] = (),
) -> Summary:
    """Arms in the order of their runs, then the rows from elsewhere.

    Args:
        agreement: pairs of columns, of which the rank correlation over the arms is told.
    """
    rows: dict[str, dict[str, Mean | None]] = {}
    for arm in dict.fromkeys(outcome.setting.arm for outcome in outcomes):
        mine = [outcome for outcome in outcomes if outcome.setting.arm == arm]
        rows[arm] = {column: _mean([outcome.measures.get(column) for outcome in mine]) for column in columns}
    told = [_agreement(first, second, list(rows.values())) for first, second in agreement]
    for name, figures in beside.items():
        rows[name] = {column: Mean(figures[column], None) if column in figures else None for column in columns}
    failed = {outcome.setting.label: outcome.error for outcome in outcomes if outcome.error}
    return Summary(title, columns, rows, failed, told)


def write(out: StageDir, summary: Summary, outcomes: Sequence[Outcome]) -> None:
    """Write table.md, table.csv, table.parquet, and report.html with the table as its section."""
    with out.write("table.md") as file:
        file.write(markdown(summary).encode())
    with out.write("table.csv") as file:
        file.write(comma_separated(summary).encode())
    single = [
        {"arm": outcome.setting.arm, "seed": outcome.setting.seed, "measure": column, "value": value}
        for outcome in outcomes
        for column, value in outcome.measures.items()
    ]
    figures = Figures(out)
    figures.write(pa.Table.from_pylist(single, schema=figures.schema))
    with out.write("report.html") as file:
        file.write(
            study_page(
                summary.title, list(summary.columns), summary.texts(), summary.failed, " ".join(summary.agreement)
            ).encode()
        )


def markdown(summary: Summary) -> str:
    """The table as Markdown, failures below it."""
    lines = [f"# {summary.title}", "", f"| | {' | '.join(summary.columns)} |", f"|---|{'---|' * len(summary.columns)}"]
    lines += [f"| {' | '.join(row)} |" for row in summary.texts()]
    lines += ["", *(f"- {line}" for line in summary.agreement)]
    lines += ["", *(f"- {run} has no figures: {error}" for run, error in summary.failed.items())]
    return "\n".join(lines).rstrip() + "\n"


def comma_separated(summary: Summary) -> str:
    """The table as CSV: two columns, mean and deviation, for every measure."""
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(["arm", *(f"{column} {part}" for column in summary.columns for part in ("mean", "sd"))])
    for name, row in summary.rows.items():
        means = [row[column] for column in summary.columns]
        writer.writerow(
            [name, *(value for mean in means for value in ((mean.mean, mean.deviation) if mean else ("", "")))]
        )
    return text.getvalue()


def _agreement(first: str, second: str, rows: Sequence[Mapping[str, Mean | None]]) -> str:
    both = [(row[first], row[second]) for row in rows]
    pairs = [(one.mean, other.mean) for one, other in both if one is not None and other is not None]
    if len(pairs) < 3:
        return f"{first} and {second}: {len(pairs)} arms have both, too few to tell whether they order arms alike."
    found = spearmanr(*zip(*pairs, strict=True)).statistic
    return f"{first} and {second}: rank correlation {found:.2f} over {len(pairs)} arms (Spearman's ρ)."


def _mean(values: Sequence[float | None]) -> Mean | None:
    known = [value for value in values if value is not None]
    if not known or len(known) < len(values):
        return None
    return Mean(float(np.mean(known)), float(np.std(known, ddof=1)) if len(known) > 1 else None)
