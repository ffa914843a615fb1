"""The command that sends a job to a cluster: `submit`."""

from typing import Annotated

import typer

from lgsid_ray.cli.options import Config, Debug, Out, Set, configure, reported, tell
from lgsid_ray.pipeline import needed


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command("submit")(submit_command)


@reported
def submit_command(
    stage: Annotated[str, typer.Argument(help="run, or the name of a stage.")] = "run",
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

    resolved = configure(config, overrides)
    if stage != "run":
        needed(resolved, stage.replace("-", "_"))
    task = Job(stage=stage, out=out, config=config, overrides=tuple(overrides or ()), working_dir=working_dir)
    code = submit(task, address, wait, log=tell)
    if code:
        raise typer.Exit(code)
