"""The command line: `lgsid run`, one sub-command per stage, and what goes with them."""

import functools
import json
import traceback
from collections.abc import Callable
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from lgsid_ray.artifacts import schemas as tables
from lgsid_ray.config import RunConfig, load, parse, to_yaml
from lgsid_ray.config.catalogue import ITEM_OPTIONAL, ITEM_REQUIRED, LOG_OPTIONAL, LOG_REQUIRED
from lgsid_ray.errors import ConfigError, StorageError
from lgsid_ray.execution.failure import explain
from lgsid_ray.execution.run import Run
from lgsid_ray.execution.storage import StageDir, resolve

console = Console(highlight=False)
errors = Console(stderr=True, highlight=False, soft_wrap=True)

app = typer.Typer(
    name="lgsid",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    help="Turn located items into geographic semantic IDs, on Ray.\n\n"
    "Try [bold]lgsid demo[/bold], which needs no data. Then copy a file of configs/, point it at your catalogue "
    "([bold]lgsid schema[/bold] says which columns it needs, [bold]lgsid config show[/bold] what can be set), and\n\n"
    "[bold]lgsid run --config my.yaml --out runs/mine[/bold]\n\n"
    "Finished stages are kept: give the same command again after a kill or a change, and only what is missing or "
    "changed is computed. Exit codes: 0 done, 2 configuration, 3 input, 4 a result too poor to build on, "
    "5 storage, 1 anything else.",
)
config_app = typer.Typer(no_args_is_help=True, help="Look at configurations.")
app.add_typer(config_app, name="config")

Config = Annotated[
    str | None, typer.Option("--config", "-c", help="YAML file; without it every value has its default.")
]
Out = Annotated[str, typer.Option("--out", "-o", help="Run directory: a path, or a URI such as s3://bucket/run.")]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", "-s", help="Override one value, e.g. --set align.lambda=1.8; may be repeated."),
]
Address = Annotated[
    str | None,
    typer.Option("--ray-address", help="Ray cluster to join; default: RAY_ADDRESS, else a local Ray is started."),
]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]

INPUT = {
    "item_id": "text or a whole number",
    "name": "text",
    "lat": "degrees",
    "lon": "degrees",
    "brand": "text",
    "category_1": "text",
    "category_2": "text",
    "province": "text; filled from the nearest populated place where missing",
    "city": "text; likewise",
    "district": "text; likewise",
    "price": "a number of 0 or more",
    "user_id": "text or a whole number",
    "timestamp": "Unix time in seconds to nanoseconds, a date, or ISO 8601 text",
    "label": "1 click, 0 impression, or a rating; without it every row is a visit",
}
TABLES = ("ITEMS", "INTERACTIONS", "QUARANTINE", "NEGATIVES", "TRIPLES", "SIDS", "INVERSE")


def reported(command: Callable[..., None]) -> Callable[..., None]:
    """Turn whatever `command` raises into a message and an exit code; a traceback only with --debug."""

    @functools.wraps(command)
    def guarded(*args: Any, **kwargs: Any) -> None:
        try:
            command(*args, **kwargs)
        except KeyboardInterrupt:
            errors.print("interrupted; give the same command again to continue")
            raise typer.Exit(130) from None
        except typer.Exit:
            raise
        except Exception as error:
            if kwargs.get("debug"):
                traceback.print_exc()
            known = explain(error)
            if known is None:
                errors.print(f"internal error: {type(error).__name__}: {error}", markup=False)
                errors.print("please report it, with the traceback that --debug shows")
                raise typer.Exit(1) from None
            errors.print(f"error: {known}", markup=False)
            raise typer.Exit(known.exit_code) from None

    return guarded


def configure(config: str | None, overrides: list[str] | None, address: str | None) -> RunConfig:
    """The resolved configuration of a command line."""
    extra = [f"ray.address={address}"] if address else []
    return load(config, [*(overrides or []), *extra])


def run_until(config: RunConfig, out: str, stage: str | None) -> Run:
    """Run the plan up to `stage` (None: all of it) in `out`; Ray is started only when something is missing."""
    # Imported here: it pulls in torch and Ray, which `lgsid --help` should not wait for.
    from lgsid_ray.execution.session import ray_session
    from lgsid_ray.pipeline import execute, is_complete

    run = Run(out, config, log=lambda line: console.print(line, markup=False))
    run.home.make().write_json("config.json", config.model_dump(mode="json", by_alias=True))
    if is_complete(run, stage):
        execute(run, stage)
    else:
        with ray_session(config.ray):
            execute(run, stage)
    return run


@app.command("run")
@reported
def run_command(
    config: Config = None,
    out: Out = "runs/run",
    overrides: Set = None,
    ray_address: Address = None,
    debug: Debug = False,
) -> None:
    """The whole path: catalogue to SIDs, recommenders and report.

    Examples:

    lgsid run --config configs/gowalla.yaml --out runs/gowalla

    lgsid run --config my.yaml --out s3://bucket/run --ray-address auto --set align.lambda=1.8
    """
    _finish(run_until(configure(config, overrides, ray_address), out, None))


@app.command("demo")
@reported
def demo_command(
    out: Out = "runs/demo", overrides: Set = None, ray_address: Address = None, debug: Debug = False
) -> None:
    """The whole path on a synthetic city world: no data needed, about ten minutes on two cores.

    Example: lgsid demo --out runs/demo --set seed=1
    """
    _finish(run_until(configure(None, overrides, ray_address), out, None))


@app.command("evaluate")
@reported
def evaluate_command(
    config: Config = None,
    out: Out = "runs/run",
    overrides: Set = None,
    ray_address: Address = None,
    seeds: Annotated[str, typer.Option(help="Seeds to run and set side by side, e.g. 0,1,2.")] = "",
    debug: Debug = False,
) -> None:
    """Run up to the metrics and print them; with --seeds, for several seeds with mean and deviation.

    Example: lgsid evaluate --config configs/openbeta.yaml --out runs/openbeta --seeds 0,1,2
    """
    try:
        chosen: list[int | None] = [int(seed) for seed in seeds.split(",") if seed.strip()] or [None]
    except ValueError:
        raise ConfigError(f"--seeds {seeds!r}: expected whole numbers with commas, for example 0,1,2") from None
    metrics = []
    for seed in chosen:
        extra = [] if seed is None else [f"seed={seed}"]
        run = run_until(configure(config, [*(overrides or []), *extra], ray_address), out, "evaluate")
        metrics.append(run.directory("evaluate").read_json("metrics.json"))
    _print_metrics(metrics)


@app.command("tune")
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

    resolved = configure(config, overrides, ray_address)
    with ray_session(resolved.ray):
        folder = search(resolved, out, log=lambda line: console.print(line, markup=False))
    for name in ("best.yaml", "trials.json", "pareto.html"):
        console.print(folder.path(name), markup=False, soft_wrap=True)


@app.command("submit")
@reported
def submit_command(
    job: Annotated[str, typer.Argument(help="run, or the name of a stage.")] = "run",
    config: Config = None,
    out: Out = "runs/run",
    overrides: Set = None,
    address: Annotated[str, typer.Option(help="Dashboard of the cluster.")] = "http://127.0.0.1:8265",
    working_dir: Annotated[str, typer.Option(help="Folder that is sent to the cluster: a checkout.")] = ".",
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Follow the job and end with its exit code.")] = True,
    debug: Debug = False,
) -> None:
    """Send a job to a Ray cluster, follow its log, and end with its exit code.

    Examples:

    lgsid submit --config configs/production.yaml --out s3://bucket/run

    lgsid submit sample -c configs/gowalla.yaml -o /shared/runs/gowalla --address http://127.0.0.1:8265
    """
    from lgsid_ray.execution.submit import Job, submit

    task = Job(script=job, out=out, config=config, overrides=tuple(overrides or ()), working_dir=working_dir)
    code = submit(task, address, wait, log=lambda line: console.print(line, markup=False, soft_wrap=True))
    if code:
        raise typer.Exit(code)


@app.command("status")
@reported
def status_command(out: Out = "runs/run", debug: Debug = False) -> None:
    """Which stages of the latest run in a run directory are finished, and where their results lie.

    Example: lgsid status --out runs/mine
    """
    from lgsid_ray.pipeline import needed

    home = StageDir(resolve(out))
    where = home.path("config.json")
    if not home.exists("config.json"):
        raise StorageError(f"{home.root} is not a run directory: it has no config.json")
    try:
        tree = json.loads(home.read("config.json"))
    except ValueError as error:
        raise StorageError(f"{where} is corrupt ({error}); give the command of the run again, it writes it") from None
    run = Run(out, parse(tree, where))
    table = Table("stage", "state", "seconds", "peak GiB", "folder", title=home.root)
    for stage in needed(run.config, None):
        folder = f"{stage.name}/{run.fingerprint(stage)}"
        done = run.manifest(stage.name)
        state = "done" if done else ("interrupted" if home.exists(folder) else "not started")
        seconds = f"{done.seconds:.0f}" if done else ""
        peak = f"{done.peak_memory_mb / 1024:.2f}" if done else ""
        table.add_row(stage.name, state, seconds, peak, folder)
    console.print(table)


@config_app.command("show")
@reported
def config_show(config: Config = None, overrides: Set = None, debug: Debug = False) -> None:
    """Print the resolved configuration as YAML: the file, the overrides and every default.

    Example: lgsid config show --config configs/gowalla.yaml --set seed=1 > mine.yaml
    """
    console.print(to_yaml(load(config, overrides)), markup=False, soft_wrap=True, end="")


@app.command("schema")
@reported
def schema_command(debug: Debug = False) -> None:
    """The columns your files need, and those of every table that the stages write.

    Example: lgsid schema
    """
    console.print("Your files. Columns with other names are mapped in the configuration, for example")
    console.print("catalogue: {source: {items: {path: venues.csv, columns: {item_id: venue}}}}", markup=False)
    for title, required, optional in (
        ("items", ITEM_REQUIRED, ITEM_OPTIONAL),
        ("interactions", LOG_REQUIRED, LOG_OPTIONAL),
    ):
        table = Table("column", "needed", "holds", title=title)
        for name in (*required, *optional):
            table.add_row(name, "yes" if name in required else "", INPUT[name])
        console.print(table)
    console.print("What the stages write, as Parquet.")
    written = {name.lower(): getattr(tables, name) for name in TABLES} | {"embeddings": tables.embeddings(1)}
    for title, schema in written.items():
        table = Table("column", "type", title=title)
        for column in schema:
            table.add_row(column.name, Text(str(column.type).replace("[1]", "[dimension]")))
        console.print(table)


def _print_metrics(metrics: list[dict[str, Any]]) -> None:
    from lgsid_ray.evaluate.table import tables as metric_tables

    for table in metric_tables(metrics):
        console.print(table)


def _finish(run: Run) -> None:
    from lgsid_ray.recommend.table import tables as recommender_tables

    _print_metrics([run.directory("evaluate").read_json("metrics.json")])
    enabled = {"rank": run.config.rank.enabled, "generate": run.config.generate.enabled}
    found = {name: run.directory(name).read_json("metrics.json") for name, wanted in enabled.items() if wanted}
    for table in recommender_tables(found.get("rank"), found.get("generate")):
        console.print(table)
    for name, figures in found.items():
        if "skipped" in figures:
            console.print(f"{name} was left out: {figures['skipped']}", markup=False, soft_wrap=True)
    console.print(f"SIDs:   {run.directory('tokenise').root}", markup=False, soft_wrap=True)
    console.print(f"report: {run.directory('report').path('report.html')}", markup=False, soft_wrap=True)


def _stage_command(stage: str, summary: str) -> None:
    @reported
    def command(
        config: Config = None,
        out: Out = "runs/run",
        overrides: Set = None,
        ray_address: Address = None,
        debug: Debug = False,
    ) -> None:
        run = run_until(configure(config, overrides, ray_address), out, stage)
        manifest = run.manifest(stage)
        assert manifest is not None
        table = Table("fact", "value", title=stage)
        for key, value in manifest.facts.items():
            table.add_row(key, Text(_told(value)))
        console.print(table)
        console.print(f"folder: {run.directory(stage).root}", markup=False, soft_wrap=True)

    command.__doc__ = (
        f"{summary[0].upper()}{summary[1:]}.\n\nRuns up to this stage; what is finished is kept.\n\n"
        f"Example: lgsid {stage.replace('_', '-')} -c my.yaml -o runs/mine"
    )
    app.command(stage.replace("_", "-"), rich_help_panel="Stages: each runs what it needs first")(command)


def _told(fact: Any) -> str:
    return "\n".join(f"{key}: {value}" for key, value in fact.items()) if isinstance(fact, dict) else str(fact)


STAGES = {
    "catalogue": "read, validate, label and split items and interactions",
    "sample": "density-aware negatives (Eq 1)",
    "embed": "reference embeddings",
    "embed_content": "embeddings of content-only prompts",
    "embed_lists": "embeddings of mismatched prompts (Eq 1)",
    "reward": "train the reward model (Eq 2-4)",
    "prefer": "draw preference triples (Eq 5)",
    "align": "G-DPO: train the embedding model (Eq 6-8)",
    "embed_aligned": "aligned embeddings",
    "tokenise": "semantic IDs (Eq 9-16)",
    "rank": "click prediction with and without SIDs",
    "generate": "next-item generation with SIDs",
    "report": "one HTML page",
}
for _name, _summary in STAGES.items():
    _stage_command(_name, _summary)


def main() -> None:
    """Entry point of the `lgsid` command."""
    app()
