"""What a stage is: a name, a function, and what its result depends on. Declared once, in pipeline.py."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import TYPE_CHECKING, Any

from lgsid_ray.config import RunConfig
from lgsid_ray.config.base import Section

if TYPE_CHECKING:  # pyarrow and fsspec are heavy for a table of names
    from lgsid_ray.execution.storage import StageDir

Facts = dict[str, Any]
"""What a stage tells about itself: row counts and figures, JSON values only."""
Inputs = Mapping[str, "StageDir"]
"""The finished stages that a stage reads, by the role they play for it."""


@dataclass(frozen=True)
class Cell:
    """One cell of a study at work: what sets it apart, what it reads, where it writes."""

    name: str
    """For example `rank/din/hgit/0`."""
    settings: Any
    """The stage's `cell`: the part of the configuration that is this cell's alone."""
    inputs: Inputs
    out: "StageDir"


@dataclass(frozen=True)
class Stage:
    """One room's entry, by name: nothing is imported before it runs.

    `function` is `room.module:name` below lgsid_ray and is called as `function(config, inputs, out) -> Facts`. Where
    the stage is a cell, it is called once for all cells of the plan that are missing, side by side:
    `function(config, cells) -> list of Facts`; each cell's result must be what it would be alone.
    """

    name: str
    function: str
    sections: tuple[str, ...]
    """The configuration sections it may read; reading another raises."""
    inputs: Mapping[str, str] = field(default_factory=dict)
    """Role → name of the stage that plays it."""
    seeded: bool = True
    """False: the result does not depend on the run's seed, which it may not read; runs with other seeds share it."""
    sources: str | None = None
    """`room.module:name`, called with the configuration: identities (size, time, ETag) of files from outside."""
    check: str | None = None
    """`room.module:name`, called as `check(config, facts)` with the catalogue's facts as soon as that stands: what
    would make this stage fail is told before the hours that lie between."""
    kind: str | None = None
    """The entry of its room's registry that the stage is about; the code of the others is none of its identity."""
    cell: Section | None = None
    """What sets a cell apart from the others of its family; part of its identity."""
    summary: str = ""
    """One line for `--help` and `lgsid status`."""

    @property
    def family(self) -> str:
        """The name's part before the first `/`: what the command line calls it."""
        return self.name.partition("/")[0]


def function_of(reference: str) -> Callable[..., Any]:
    """The function that `room.module:name` means."""
    module, _, name = reference.partition(":")
    found: Callable[..., Any] = getattr(import_module(f"lgsid_ray.{module}"), name)
    return found


class Sections:
    """A view of the configuration that refuses what the stage's fingerprint does not cover."""

    def __init__(self, config: RunConfig, stage: Stage) -> None:
        self._config = config
        self._allowed = {*stage.sections, "ray", *(["seed"] if stage.seeded else [])}
        self._stage = stage.name

    def __getattr__(self, name: str) -> Any:
        if name not in self._allowed:
            raise AttributeError(f"stage {self._stage} does not declare {name!r}; its fingerprint would miss it")
        return getattr(self._config, name)
