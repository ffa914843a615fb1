"""A run directory: stages, manifests, skip, resume, atomic publish.

    RUN/<stage>/<fingerprint>/…              what the stage wrote
    RUN/<stage>/<fingerprint>/manifest.json  written last: with it the stage is whole, without it it is not
    RUN/config.json                          the configuration of the latest run

A fingerprint covers the configuration sections that the stage reads (less resources), the seed, the fingerprints of
the stages before it, its source files and its code. Nothing is ever overwritten, so runs that share a stage share its
result.
"""

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from pydantic import BaseModel, ValidationError

import lgsid_ray
from lgsid_ray.config import RunConfig
from lgsid_ray.errors import StorageError
from lgsid_ray.execution.fingerprint import Identity, changes, code_of, fingerprint
from lgsid_ray.execution.lease import Lease, hold
from lgsid_ray.execution.memory import PeakMemory
from lgsid_ray.execution.stage import Cell, Facts, Sections, Stage, function_of
from lgsid_ray.execution.storage import SCRATCH, StageDir, resolve

MANIFEST = "manifest.json"


class Manifest(BaseModel):
    """What stands in manifest.json: the stage's identity, and how it went."""

    stage: str
    fingerprint: str
    version: str
    """Of this package."""
    config: dict[str, Any]
    """The sections that the stage reads, less resources."""
    cell: dict[str, Any] | None
    seed: int | None
    inputs: dict[str, str]
    """Role → fingerprint."""
    sources: list[str]
    code: dict[str, str]
    """Module → digest."""
    facts: Facts
    seconds: float
    """Of cells that were computed side by side, each one's share."""
    peak_memory_mb: float
    finished: str


@dataclass
class Run:
    """A run directory together with the configuration that is run in it."""

    uri: str
    config: RunConfig
    log: Callable[[str], None] = print
    _identities: dict[str, Identity] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.uri = resolve(self.uri)
        self.home = StageDir(self.uri)

    def reconfigure(self, config: RunConfig, kept: str) -> None:
        """Go on with another configuration, which stage `kept` does not feel; all others' identities are asked anew."""
        self.config = config
        self._identities = {name: told for name, told in self._identities.items() if name == kept}

    def identity(self, stage: Stage) -> Identity:
        """What the stage's result depends on; its input stages must have been asked first."""
        if stage.name not in self._identities:
            self._identities[stage.name] = {
                "stage": stage.name,
                "config": {name: getattr(self.config, name).identity() for name in stage.sections},
                "cell": stage.cell.identity() if stage.cell else None,
                "seed": self.config.seed if stage.seeded else None,
                "inputs": {role: self.fingerprint(name) for role, name in stage.inputs.items()},
                "sources": function_of(stage.sources)(self.config) if stage.sources else [],
                "code": code_of(stage.function, stage.kind),
            }
        return self._identities[stage.name]

    def fingerprint(self, stage_name: str) -> str:
        """The fingerprint of a stage whose identity is known."""
        return fingerprint(self._identities[stage_name])

    def directory(self, stage_name: str) -> StageDir:
        """Where the stage's result lies under this configuration."""
        return self.home.child(f"{stage_name}/{self.fingerprint(stage_name)}")

    def manifest(self, stage_name: str) -> Manifest | None:
        """The stage's manifest, or None when it has not finished.

        Raises:
            StorageError: the manifest is there but corrupt.
        """
        out = self.directory(stage_name)
        return _read(out) if out.exists(MANIFEST) else None

    def execute(self, stage: Stage) -> Manifest:
        """Run the stage unless its result already stands; publish it by writing its manifest last."""
        return self.execute_together([stage])[0]

    def execute_together(self, stages: Sequence[Stage]) -> list[Manifest]:
        """Run what is missing of one stage, or of several cells of one function, side by side."""
        for stage in stages:
            self.identity(stage)
        with ExitStack() as held:
            missing: list[tuple[Stage, Lease]] = []
            for stage in sorted(stages, key=lambda stage: stage.name):  # one order for all: nobody waits in a ring
                out = self.directory(stage.name)
                done, left = out.exists(MANIFEST), out.exists(SCRATCH)
                if not done or left:
                    resumed = out.exists()
                    lease = held.enter_context(hold(out.make(), self.log))
                    if not out.exists(MANIFEST):  # another process may have finished it meanwhile
                        self.log(self._start_line(stage, resumed))
                        missing.append((stage, lease))
                        continue
                    out.remove(SCRATCH)  # what a kill right after the manifest has left
                self.log(f"{stage.name}: up to date ({self.fingerprint(stage.name)}), skipped")
            if missing:
                self._compute(sorted(missing, key=lambda pair: stages.index(pair[0])))
        return [self._finished(stage.name) for stage in stages]

    def _compute(self, missing: list[tuple[Stage, Lease]]) -> None:
        first = missing[0][0]
        function, config = function_of(first.function), Sections(self.config, first)
        started = time.monotonic()
        with PeakMemory() as memory:
            if first.cell is None:
                cell = self._cell(first)
                told = [function(config, cell.inputs, cell.out)]
            else:
                told = function(config, [self._cell(stage) for stage, _ in missing])
        seconds = (time.monotonic() - started) / len(missing)
        for (stage, lease), facts in zip(missing, told, strict=True):
            manifest = Manifest(
                **self._identities[stage.name],
                fingerprint=self.fingerprint(stage.name),
                version=lgsid_ray.__version__,
                facts=facts,
                seconds=round(seconds, 2),
                peak_memory_mb=round(memory.peak_mb, 1),
                finished=datetime.now(UTC).isoformat(timespec="seconds"),
            )
            out = self.directory(stage.name)
            lease.check()
            out.write_json(MANIFEST, manifest.model_dump(mode="json"))
            # Scratch goes last: a stage that is killed here must still find what it would continue from.
            out.remove(SCRATCH)
            self.log(f"{stage.name}: done in {seconds:.0f} s, peak {memory.peak_mb / 1024:.1f} GiB")

    def _cell(self, stage: Stage) -> Cell:
        inputs = {role: self.directory(name) for role, name in stage.inputs.items()}
        return Cell(stage.name, stage.cell, inputs, self.directory(stage.name))

    def _finished(self, stage_name: str) -> Manifest:
        manifest = self.manifest(stage_name)
        assert manifest is not None, "it was just written"
        return manifest

    def _start_line(self, stage: Stage, resumed: bool) -> str:
        own = self.fingerprint(stage.name)
        if resumed:
            return f"{stage.name}: continues ({own})"
        last = self._last(stage.name)
        if last is None:
            return f"{stage.name}: starts ({own})"
        told = changes(last.model_dump(mode="json"), self._identities[stage.name])
        return f"{stage.name}: starts ({own}; since {last.fingerprint}: {told})"

    def _last(self, stage_name: str) -> Manifest | None:
        """The manifest of the stage's latest result under any configuration."""
        return max(results(self.home, stage_name), key=lambda manifest: manifest.finished, default=None)


def results(home: StageDir, stage_name: str) -> list[Manifest]:
    """The manifests of a stage's finished results in a run directory, under any configuration, by fingerprint."""
    folder = home.child(stage_name)
    found = []
    for result in (folder.child(name) for name in sorted(folder.members(""))):
        with suppress(StorageError):  # of another version of this package, or torn: not what was asked for
            found += [_read(result)] if result.exists(MANIFEST) else []
    return found


def _read(out: StageDir) -> Manifest:
    try:
        return Manifest.model_validate(out.read_json(MANIFEST))
    except ValidationError as error:
        raise StorageError(
            f"{out.path(MANIFEST)} is corrupt ({error.error_count()} fields); delete {out.root} and run again"
        ) from None
