"""Commands before a run, and those that only look: `init`, `check`, `status`, `explain`, …"""

import json
from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from lgsid_ray.cli.options import Config, Debug, Out, Set, configure, console, latest, reported, tell
from lgsid_ray.config import to_yaml
from lgsid_ray.config.catalogue import ITEM_OPTIONAL, ITEM_POINT, ITEM_REQUIRED, LOG_OPTIONAL, LOG_REQUIRED, TableSource
from lgsid_ray.errors import InputError

INPUT = {
    "item_id": "text or a whole number",
    "name": "text",
    "lat": "degrees; with lon or not at all: a catalogue without coordinates is not aligned",
    "lon": "degrees; likewise",
    "point": "in the place of lat and lon: a point as WKB, WKT or GeoJSON",
    "brand": "text",
    "category_1": "text",
    "category_2": "text",
    "province": "text; filled from the nearest populated place where missing",
    "city": "text; likewise",
    "district": "text; likewise",
    "price": "a number of 0 or more; left empty where it is none",
    "user_id": "text or a whole number",
    "timestamp": "Unix time in seconds to nanoseconds, a typed time, ISO 8601 text, or text in `time_format`",
    "label": "1 or true click, 0 or false impression, or a rating; without it every row is a visit",
}
config_app = typer.Typer(no_args_is_help=True, help="Look at configurations.")


def register(app: typer.Typer) -> None:
    """Add the commands to `app`."""
    app.command("init")(init_command)
    app.command("check")(check_command)
    app.command("status")(status_command)
    app.command("explain")(explain_command)
    app.command("find")(find_command)
    app.command("schema")(schema_command)
    app.add_typer(config_app, name="config")


@reported
def init_command(
    files: Annotated[
        list[str], typer.Argument(help="Your files: items, and the log if there is one; patterns in quotes.")
    ],
    out: Annotated[str, typer.Option("--out", "-o", help="YAML file to write; - prints it.")] = "my.yaml",
    force: Annotated[bool, typer.Option("--force", help="Overwrite it.")] = False,
    debug: Debug = False,
) -> None:
    """Write a first configuration from your files: columns by name and content, with every assumption beside it.

    Knows Foursquare, Overture, Yelp, Google Local, OpenStreetMap, GeoNames, Gowalla, MovieLens and OpenSiteRec.

    Example: lgsid init venues.csv 'checkins/*.csv.gz' --out my.yaml
    """
    from lgsid_ray.cli.init import init

    init(files, out, force)


@reported
def check_command(config: Config = None, overrides: Set = None, debug: Debug = False) -> None:
    """Read your files as a run would and tell what is in them: nothing is written, no Ray is started.

    Per column what it was taken for, what is empty or unreadable; rows by reason; whether log and items match; a map.

    Example: lgsid check --config my.yaml
    """
    from lgsid_ray.cli.check import check

    check(configure(config, overrides))


@reported
def status_command(out: Out = "runs/run", debug: Debug = False) -> None:
    """Which stages of the latest run in a run directory are finished, and where their results lie.

    Example: lgsid status --out runs/mine
    """
    from lgsid_ray.pipeline import standing

    run = latest(out)
    home = run.home
    try:
        found = standing(run)
    except InputError as error:
        raise InputError(
            f"{error}. Of URLs {home.path('config.json')} keeps neither user nor query: give the command of the run "
            "again, it tells all"
        ) from None
    table = Table("stage", "state", "seconds", "peak GiB", title=home.root)
    table.add_column("folder", overflow="fold")  # to be copied: never cut
    for stage, done in found:
        folder = f"{stage.name}/{run.fingerprint(stage.name)}"
        state = "done" if done else ("interrupted" if home.exists(folder) else "not started")
        seconds = f"{done.seconds:.0f}" if done else ""
        peak = f"{done.peak_memory_mb / 1024:.2f}" if done else ""
        table.add_row(stage.name, state, seconds, peak, folder)
    console.print(table)


@reported
def explain_command(
    items: Annotated[
        list[str],
        typer.Argument(help="item_id of one item or several, as in your catalogue; or SIDs, or their first parts."),
    ],
    out: Out = "runs/run",
    tokenizer: Annotated[
        str | None,
        typer.Option(
            help="Where a run directory holds several: NAME, or NAME/FINGERPRINT; default: that of the latest run."
        ),
    ] = None,
    debug: Debug = False,
) -> None:
    """What an item's SID says: for each of its prefixes who shares it, what they have in common, and who is nearest.

    says: what tells its items from the others of the prefix before (level 1: of the catalogue); share here, elsewhere.

    z: the log-odds ratio of the two in standard errors, under a prior; what chance would bring is left out.

    siblings: the nearest that share the prefix and no longer one; without coordinates, the most alike.

    An id that there is not is looked for among ids and names. Of a SID, or the first parts of one: the items behind it.

    Example: lgsid explain t00000-000037 --out runs/demo; lgsid explain '<a_12><b_3>' --out runs/demo
    """
    from lgsid_ray.cli.explain import explain_items

    explain_items(items, out, tokenizer)


@config_app.command("show")
@reported
def config_show(config: Config = None, overrides: Set = None, debug: Debug = False) -> None:
    """Print the resolved configuration as YAML: the file, the overrides and every default.

    Example: lgsid config show --config configs/gowalla.yaml --set seed=1 > mine.yaml
    """
    console.print(to_yaml(configure(config, overrides)), markup=False, soft_wrap=True, end="")


@reported
def find_command(
    text: Annotated[str, typer.Argument(help="What is looked for, in words: a kind of item, a place, or both.")],
    out: Out = "runs/run",
    count: Annotated[int, typer.Option(min=1, help="How many items.")] = 10,
    debug: Debug = False,
) -> None:
    """Items that a text means, by the run's own embeddings: what the aligned encoder makes of free text.

    Example: lgsid find "Groceries near Medina" --out runs/demo
    """
    from lgsid_ray.cli.find import find_items

    find_items(text, out, count)


@reported
def schema_command(debug: Debug = False) -> None:
    """The columns your files need, and those of every table that the stages write.

    Example: lgsid schema
    """
    from lgsid_ray.artifacts import TABLES

    tell("Your files. Columns with other names are mapped in the configuration (lgsid init writes one), for example")
    tell("catalogue: {source: {items: {path: venues.csv, columns: {item_id: venue, name: names.primary}}}}")
    for title, required, optional in (
        ("items", ITEM_REQUIRED, (*ITEM_OPTIONAL, ITEM_POINT)),
        ("interactions", LOG_REQUIRED, LOG_OPTIONAL),
    ):
        table = Table("column", "needed", "holds", title=title)
        for name in (*required, *optional):
            table.add_row(name, "yes" if name in required else "", INPUT[name])
        console.print(table)
    options = Table("option", "default", "means", title="of items and interactions")
    for name, field in TableSource.model_fields.items():
        default = "" if field.is_required() else json.dumps(field.get_default(call_default_factory=True))
        options.add_row(name, Text(default), Text(" ".join((field.description or "").split())))
    console.print(options)
    tell("What the stages write, as Parquet.")
    for written in TABLES:
        table = Table("column", "type", title=written.name)
        for column in written.schema:
            table.add_row(column.name, Text(str(column.type)))
        console.print(table)
