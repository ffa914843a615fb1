"""The command `lgsid`: what all sub-commands hang on."""

import typer

from lgsid_ray.cli import cluster, look, runs, serve, studies

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
for room in (runs, studies, serve, cluster, look):
    room.register(app)


def main() -> None:
    """Entry point of the `lgsid` command."""
    app()
