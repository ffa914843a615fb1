"""Commands that put trained models to work: `recommend` and `score`."""

from typing import Annotated

import typer

from lgsid_ray.cli.options import Address, Debug, Out, latest, reported
from lgsid_ray.errors import ConfigError


def register(app: typer.Typer) -> None:
    """Add the commands to `app`."""
    app.command("recommend")(recommend_command)
    app.command("score")(score_command)


@reported
def recommend_command(
    user: Annotated[
        list[str] | None, typer.Option("--user", "-u", help="user_id, as in your log; may be repeated.")
    ] = None,
    to: Annotated[
        str | None, typer.Option(help="Folder for the lists of many users, as Parquet; a path or a URI.")
    ] = None,
    users: Annotated[
        str | None, typer.Option(help="Parquet file with a column user_id; default: every user of the log.")
    ] = None,
    out: Out = "runs/run",
    count: Annotated[int, typer.Option(min=1, max=500, help="Items of a list.")] = 10,
    new: Annotated[bool, typer.Option("--new", help="Only what the user has never visited.")] = False,
    within: Annotated[
        float | None, typer.Option(min=0, help="Only items within so many km of the user's last place, or of --near.")
    ] = None,
    near: Annotated[
        str | None, typer.Option(help="LATITUDE,LONGITUDE in degrees, for --within, or of somebody without a history.")
    ] = None,
    city: Annotated[str | None, typer.Option(help="Only items of this city, as the catalogue names it.")] = None,
    model: Annotated[str | None, typer.Option(help="Kind of generator; default: that of the latest run.")] = None,
    tokenizer: Annotated[str | None, typer.Option(help="Whose SIDs; default: those of the latest run.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Which initialisation (generate.seeds).")] = 0,
    actors: Annotated[int, typer.Option(min=1, help="With --to: processes that make lists, a CPU each.")] = 2,
    ray_address: Address = None,
    debug: Debug = False,
) -> None:
    """What users want next, by a trained generator, the rules that count and all that the log knows of them.

    With --user on the terminal: chance that the item comes next, kilometres from the last place, earlier visits, SID.

    With --to as Parquet, of many users: the same call continues after a kill; users that the log lacks are kept apart.

    A limit is put into the search itself, so lists are full where there are enough items within it.

    With neither, but --near or --city: what somebody is told of whom nothing else is known, by visits and kilometres.

    Example: lgsid recommend --user u000012 --within 3 --out runs/demo; lgsid recommend --to lists --new --out runs/demo
    """
    stranger = not user and to is None and bool(near or city)
    if not stranger and (bool(user) == (to is not None) or (users and to is None)):
        raise ConfigError(
            "give --user, for the terminal, or --to, for a folder, with which --users goes; or neither but --near or "
            "--city, for somebody without a history"
        )
    if near and within is None and not stranger:
        raise ConfigError(f"--near {near!r}: say with --within how many kilometres around it")
    from lgsid_ray.cli.recommend import limit_of, recommend_all, recommend_stranger, recommend_users, request_of

    request = request_of(out, model, tokenizer, seed, count, new, limit_of(within, near, city))
    if stranger:
        recommend_stranger(request)
    elif to is None:
        recommend_users(request, list(dict.fromkeys(user or [])))
    else:
        ray = latest(out).config.ray
        recommend_all(
            request, users, to, actors, ray if ray_address is None else ray.model_copy(update={"address": ray_address})
        )


@reported
def score_command(
    pairs: Annotated[str, typer.Argument(help="Parquet: a file, a folder or a pattern; user_id, item_id, timestamp.")],
    to: Annotated[str, typer.Option(help="Folder for the scores, as Parquet; a path or a URI.")],
    out: Out = "runs/run",
    model: Annotated[str | None, typer.Option(help="Kind of ranker; default: that of the latest run.")] = None,
    tokenizer: Annotated[
        str | None, typer.Option(help="Whose SIDs, or origin for none; default: those of the latest run.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Which initialisation (rank.seeds).")] = 0,
    actors: Annotated[int, typer.Option(min=1, help="Processes that score, a CPU each.")] = 2,
    ray_address: Address = None,
    debug: Debug = False,
) -> None:
    """How likely users are to take items, by a trained ranker and all that the log knows of them.

    A row is scored by what its user did before its timestamp (Unix seconds); without that column, by everything.

    The same call continues after a kill. Items that the catalogue lacks are kept apart, with their rows.

    Example: lgsid score pairs.parquet --to scores --out runs/demo; lgsid score pairs --to scores --model sim
    """
    from lgsid_ray.cli.score import asked_of, score_pairs

    ray = latest(out).config.ray
    address = ray if ray_address is None else ray.model_copy(update={"address": ray_address})
    score_pairs(asked_of(out, model, tokenizer, seed), pairs, to, actors, address)
