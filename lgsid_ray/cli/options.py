"""What the commands share: options, the terminal, and how an error becomes a message and an exit code."""

import functools
import json
import signal
import tempfile
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from lgsid_ray.config import RunConfig, load, parse
from lgsid_ray.errors import StorageError

if TYPE_CHECKING:
    from lgsid_ray.execution.run import Run

console = Console(highlight=False)
errors = Console(stderr=True, highlight=False, soft_wrap=True)

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


class Terminated(KeyboardInterrupt):
    """SIGTERM has come. Not an Exception, which somebody on the way might catch; and of all that a signal's handler may
    raise while Ray waits, Ray passes on KeyboardInterrupt alone."""


def reported(command: Callable[..., None]) -> Callable[..., None]:
    """Turn whatever `command` raises into a message and an exit code; a traceback only with --debug."""

    @functools.wraps(command)
    def guarded(*args: Any, **kwargs: Any) -> None:
        try:
            with _terminable():
                command(*args, **kwargs)
        except Terminated:
            errors.print("stopped by SIGTERM; give the same command again to continue")
            raise typer.Exit(128 + signal.SIGTERM) from None
        except KeyboardInterrupt:
            errors.print("interrupted; give the same command again to continue")
            raise typer.Exit(128 + signal.SIGINT) from None
        except typer.Exit:
            raise
        except Exception as error:
            from lgsid_ray.execution.failure import explain

            if kwargs.get("debug"):
                traceback.print_exc()
            known = explain(error)
            if known is None:
                errors.print(f"internal error: {type(error).__name__}: {error}", markup=False)
                errors.print(f"please report it, with the traceback in {_written(error)}", markup=False)
                raise typer.Exit(1) from None
            errors.print(f"error: {known}", markup=False)
            raise typer.Exit(known.exit_code) from None

    return guarded


@contextmanager
def _terminable() -> Iterator[None]:
    """Let SIGTERM raise Terminated in the block, so that what the block holds is given back."""
    if threading.current_thread() is not threading.main_thread():  # only there may handlers be set
        yield
        return

    came: list[int] = []

    def terminate(number: int, frame: object) -> None:
        came.append(number)
        raise Terminated

    before = signal.signal(signal.SIGTERM, terminate)
    try:
        yield
    except (Exception, KeyboardInterrupt):
        if came:  # a library in whose midst it came may have made something else of it
            raise Terminated from None
        raise
    finally:
        signal.signal(signal.SIGTERM, before)


def _written(error: Exception) -> str:
    """Where the traceback of an error now lies: a rare one must not have to come again to be understood."""
    with tempfile.NamedTemporaryFile("w", prefix="lgsid-error-", suffix=".txt", delete=False) as file:
        file.writelines(traceback.format_exception(error))
    return file.name


def tell(line: str) -> None:
    """Print a line as it stands: no markup, never cut."""
    console.print(line, markup=False, soft_wrap=True)


def all_of(overrides: list[str] | None, address: str | None) -> list[str]:
    """The overrides of a command line, its --ray-address among them."""
    return [*(overrides or []), *([f"ray.address={address}"] if address else [])]


def configure(config: str | None, overrides: list[str] | None, address: str | None = None) -> RunConfig:
    """The resolved configuration of a command line."""
    return load(config, all_of(overrides, address))


def latest(out: str) -> "Run":
    """A run directory with the configuration of its latest run.

    Raises:
        StorageError: it is none, or its config.json is corrupt.
    """
    from lgsid_ray.execution.run import Run
    from lgsid_ray.execution.storage import StageDir, resolve

    home = StageDir(resolve(out))
    where = home.path("config.json")
    if not home.exists("config.json"):
        raise StorageError(f"{home.root} is not a run directory: it has no config.json; name one with --out")
    try:
        tree = json.loads(home.read("config.json"))
    except ValueError as error:
        raise StorageError(f"{where} is corrupt ({error}); give the command of the run again, it writes it") from None
    return Run(out, parse(tree, where))
