"""The command `init`: a first configuration from files."""

from pathlib import Path

from lgsid_ray.catalog.recognise import configuration, recognise
from lgsid_ray.catalog.sniff import sniff
from lgsid_ray.catalog.sources import discover
from lgsid_ray.cli.options import tell
from lgsid_ray.config import load
from lgsid_ray.config.catalogue import TableSource
from lgsid_ray.errors import ConfigError, InputError


def init(files: list[str], out: str, force: bool) -> None:
    """Recognise the files and write the YAML; `-` prints it."""
    if out != "-" and Path(out).exists() and not force:
        raise ConfigError(f"{out} is there already; name another with --out, or overwrite it with --force")
    found = []
    for path in _tables(files):
        head = sniff(path)
        table = recognise(head)
        if table is None:
            raise InputError(
                f"{path}: neither items (a key and a name for each) nor a log (user and item in each row) was "
                f"recognised among its columns {list(head.columns)}; write the mapping yourself, lgsid schema shows how"
            )
        found.append(table)
        tell(f"{path}: {table.maker}")
    text = configuration(found)
    if out == "-":
        tell(text)
        return
    Path(out).write_text(text, encoding="utf-8")
    load(out)  # what is written must be accepted
    tell(f"{out} is written; next: lgsid check --config {out}, then lgsid run --config {out} --out runs/mine")


def _tables(files: list[str]) -> list[str]:
    """The paths to describe: files that are all of one folder and ending, as a shell spells a pattern out, are one."""
    groups: dict[str, list[str]] = {}
    for path in files:
        folder, slash, name = path.rpartition("/")
        groups.setdefault(f"{folder}{slash}*{''.join(Path(name).suffixes[-2:])}", []).append(path)
    return [
        path for pattern, members in groups.items() for path in ([pattern] if _is_all(pattern, members) else members)
    ]


def _is_all(pattern: str, members: list[str]) -> bool:
    if len(members) < 3:
        return False
    found = {file.path for file in discover(TableSource(path=pattern, format="csv"))}
    return found == {str(Path(member).absolute()) for member in members}
