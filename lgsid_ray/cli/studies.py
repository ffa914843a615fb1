"""Commands for many runs at once: `study` and `tune`."""

from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from lgsid_ray.cli.options import Address, Config, Debug, Out, Set, all_of, console, reported, tell
from lgsid_ray.config import parse, read_tree

if TYPE_CHECKING:
    from lgsid_ray.studies.table import Summary


def register(app: typer.Typer) -> None:
    """Add the commands to `app`."""
    app.command("study")(study_command)
    app.command("tune")(tune_command)


@reported
def study_command(
    study: Annotated[str, typer.Argument(help="YAML file: arms, seeds, measures.")],
    out: Out = "runs/run",
    overrides: Set = None,
    ray_address: Address = None,
    debug: Debug = False,
) -> None:
    """Named overrides × seeds over one run directory, and one table of them.

    The arms share every stage they agree on, and what is finished is kept. Overrides go to the base of all arms.
    Ends with exit code 4 when a run has failed; its row says so, the others stand.

    Example: lgsid study configs/studies/lambda.yaml --out runs/demo
    """
    from lgsid_ray.config.study import load_study
    from lgsid_ray.execution.session import ray_session
    from lgsid_ray.studies.study import run_study

    planned, base = load_study(study, all_of(overrides, ray_address))
    with ray_session(parse(base, f"the base of {study}").ray):
        folder, summary = run_study(planned, base, out, tell)
    _print(summary)
    for name in ("table.md", "table.csv", "table.parquet", "report.html"):
        tell(folder.path(name))
    if summary.failed:
        raise typer.Exit(4)


@reported
def tune_command(
    config: Config = None,
    out: Out = "runs/run",
    overrides: Set = None,
    ray_address: Address = None,
    debug: Debug = False,
) -> None:
    """Search λ and codebook sizes (section `tune`); ends with best.yaml and a Pareto plot.

    Example: lgsid tune -c configs/gowalla.yaml -o runs/gowalla --set tune.trials=12 --set tune.lambdas=[0.1,10]
    """
    from lgsid_ray.execution.session import ray_session
    from lgsid_ray.studies.search import search

    base = read_tree(config, all_of(overrides, ray_address))
    with ray_session(parse(base, f"config {config}" if config else "the configuration").ray):
        folder, summary = search(base, out, tell)
    _print(summary)
    for name in ("best.yaml", "trials.json", "pareto.html"):
        tell(folder.path(name))


def _print(summary: "Summary") -> None:
    rows = [["arm", *summary.columns], *summary.texts()]
    if len(summary.columns) > len(summary.rows):  # a terminal is higher than wide
        rows = [list(column) for column in zip(*rows, strict=True)]
        rows[0][0] = "measure"
    head, *body = rows
    table = Table(head[0], title=summary.title, title_justify="left")
    for name in head[1:]:
        table.add_column(name, justify="right", overflow="fold")
    for row in body:
        table.add_row(*row)
    console.print(table)
    for line in summary.agreement:
        tell(line)
    for run, error in summary.failed.items():
        tell(f"{run} has no figures: {error}")
