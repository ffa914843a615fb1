"""Commands that run stages: `run`, `demo`, `evaluate`, and one for each other stage of the pipeline's table."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from lgsid_ray.cli.options import Address, Config, Debug, Out, Set, all_of, configure, console, reported, tell
from lgsid_ray.config import RunConfig, read_tree
from lgsid_ray.errors import ConfigError
from lgsid_ray.pipeline import STAGES, execute, standing, tokenizer_stage

if TYPE_CHECKING:
    from lgsid_ray.execution.run import Run

JUDGED = ("frontier", "evaluate")
"""The stages whose metrics are printed."""
DEMO = ("align.enabled=true", "align.steps=100", "rank.seeds=2")
HALF = ("encoder.dtype=bfloat16", "align.dtype=bfloat16")
PANEL = "Stages: each runs what it needs first"


def register(app: typer.Typer) -> None:
    """Add the commands to `app`."""
    app.command("run")(run_command)
    app.command("demo")(demo_command)
    app.command("evaluate", rich_help_panel=PANEL)(evaluate_command)
    for stage, summary in STAGES.items():
        if stage != "evaluate":
            app.command(stage.replace("_", "-"), rich_help_panel=PANEL)(_stage_command(stage, summary))


def run_until(config: RunConfig, out: str, stage: str | Sequence[str] | None) -> "Run":
    """Run the plan up to `stage` (None: all of it) in `out`; Ray is started only when something is missing."""
    from lgsid_ray.execution.run import Run

    run = Run(out, config, log=tell)
    run.home.make().write_json("config.json", config.model_dump(mode="json", by_alias=True))
    if all(manifest for _, manifest in standing(run, stage)):
        execute(run, stage)
    else:
        from lgsid_ray.execution.session import ray_session

        with ray_session(config.ray):
            execute(run, stage)
    return run


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


@reported
def demo_command(
    out: Out = "runs/demo", overrides: Set = None, ray_address: Address = None, debug: Debug = False
) -> None:
    """The whole path on a synthetic city world: no data needed, some seven minutes on two cores.

    It aligns the encoder too (align.enabled=true), in half of the default steps, to show beside what needs no training
    what that is worth; and trains each ranker twice instead of three times. Where the processor multiplies bfloat16
    natively (AMX or AVX-512 BF16), prompts are embedded in that.

    Example: lgsid demo --out runs/demo --set seed=1
    """
    import torch

    able = torch.cpu.get_capabilities()
    half = HALF if able.get("amx_bf16") or able.get("avx512_bf16") else ()
    _finish(run_until(configure(None, [*DEMO, *half, *(overrides or [])], ray_address), out, None))


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
    if not seeds:
        _print_metrics([run_until(configure(config, overrides, ray_address), out, JUDGED)])
        return
    try:
        chosen = [int(seed) for seed in seeds.split(",")]
    except ValueError:
        raise ConfigError(f"--seeds {seeds!r}: expected whole numbers with commas, for example 0,1,2") from None
    from lgsid_ray.studies.runs import settings

    planned = settings(read_tree(config, all_of(overrides, ray_address)), {"run": {}}, chosen, "the configuration")
    _print_metrics([run_until(setting.config, out, JUDGED) for setting in planned])


def _stage_command(stage: str, summary: str) -> Any:
    @reported
    def command(
        config: Config = None,
        out: Out = "runs/run",
        overrides: Set = None,
        ray_address: Address = None,
        debug: Debug = False,
    ) -> None:
        run = run_until(configure(config, overrides, ray_address), out, stage)
        if stage == "frontier":
            _print_metrics([run], [stage])
        last, manifest = standing(run, stage)[-1]
        assert manifest is not None
        table = Table("fact", "value", title=last.name)
        for key, value in manifest.facts.items():
            table.add_row(key, Text(_told(value)))
        console.print(table)
        tell(f"folder: {run.directory(last.name).root}")

    command.__doc__ = (
        f"{summary[0].upper()}{summary[1:]}.\n\nRuns up to this stage; what is finished is kept.\n\n"
        f"Example: lgsid {stage.replace('_', '-')} -c my.yaml -o runs/mine"
    )
    return command


def _told(fact: Any) -> str:
    return "\n".join(f"{key}: {value}" for key, value in fact.items()) if isinstance(fact, dict) else str(fact)


def _judged(run: "Run", stages: Sequence[str]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for stage in stages:
        found |= run.directory(stage).read_json("metrics.json")
    return found


def _print_metrics(runs: "list[Run]", stages: Sequence[str] = JUDGED) -> None:
    from lgsid_ray.evaluate.table import tables

    for table in tables([_judged(run, stages) for run in runs]):
        console.print(table)


def _finish(run: "Run") -> None:
    from lgsid_ray.recommend.table import tables

    _print_metrics([run])
    enabled = {"rank": run.config.rank.enabled, "generate": run.config.generate.enabled}
    found = {name: run.directory(name).read_json("metrics.json") for name, wanted in enabled.items() if wanted}
    for table in tables(found.get("rank"), found.get("generate")):
        console.print(table)
    for name, figures in found.items():
        if "skipped" in figures:
            tell(f"{name} was left out: {figures['skipped']}")
    tell(f"SIDs:   {run.directory(tokenizer_stage(run.config)).root}")
    tell(f"report: {run.directory('report').path('report.html')}")
