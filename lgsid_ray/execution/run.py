"""A run directory: stages, manifests, skip, resume, atomic publish.

    RUN/<stage>/<fingerprint>/…              what the stage wrote
    RUN/<stage>/<fingerprint>/manifest.json  written last: with it the stage is whole, without it it is not
    RUN/config.json                          the configuration of the latest run

A fingerprint covers the stage's version, the configuration sections it reads (less resources), the seed, the
fingerprints of the stages before it and its source files. Nothing is ever overwritten, so runs that share a stage
share its result.
"""

import fcntl
import hashlib
import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from pydantic import BaseModel, ValidationError

import lgsid_ray
from lgsid_ray.config import RunConfig
from lgsid_ray.errors import StorageError
from lgsid_ray.execution.memory import PeakMemory
from lgsid_ray.execution.storage import SCRATCH, StageDir, resolve

Facts = dict[str, Any]
"""What a stage tells about itself: row counts and figures, JSON values only."""
Inputs = Mapping[str, StageDir]
"""The finished stages a stage reads, by name."""


@dataclass(frozen=True)
class Stage:
    """One room's entry: `function(config, inputs, out)` reads tables, writes tables, returns facts."""

    name: str
    function: Callable[[RunConfig, Inputs, StageDir], Facts]
    sections: tuple[str, ...]
    """The configuration sections it may read; reading another raises."""
    inputs: tuple[str, ...] = ()
    """Names of the stages it reads."""
    version: int = 1
    """Raise it when the code changes what the stage computes."""
    seeded: bool = True
    """False: the result does not depend on the run's seed, so runs with other seeds share it."""
    sources: Callable[[RunConfig], list[str]] | None = None
    """Identities (path, size, time or ETag) of files from outside the run."""
    summary: str = ""
    """One line for `--help` and `lgsid status`."""


class Manifest(BaseModel):
    """What stands in manifest.json."""

    stage: str
    fingerprint: str
    version: int
    code: str
    seed: int
    config: dict[str, Any]
    inputs: dict[str, str]
    sources: list[str]
    facts: Facts
    seconds: float
    peak_memory_mb: float
    finished: str


class _Sections:
    """A view of the configuration that refuses a section the stage's fingerprint does not cover."""

    def __init__(self, config: RunConfig, allowed: tuple[str, ...]) -> None:
        self._config, self._allowed = config, {*allowed, "seed", "ray"}

    def __getattr__(self, name: str) -> Any:
        if name not in self._allowed:
            raise AttributeError(f"this stage does not declare section {name!r}; its fingerprint would miss it")
        return getattr(self._config, name)


@dataclass
class Run:
    """A run directory together with the configuration that is run in it."""

    uri: str
    config: RunConfig
    log: Callable[[str], None] = print
    _fingerprints: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.uri = resolve(self.uri)
        self.home = StageDir(self.uri)

    def fingerprint(self, stage: Stage) -> str:
        """The stage's identity under this configuration; its input stages must have been asked first."""
        content = {
            "stage": stage.name,
            "version": stage.version,
            "config": {name: getattr(self.config, name).identity() for name in stage.sections},
            "seed": self.config.seed if stage.seeded else None,
            "inputs": {name: self._fingerprints[name] for name in stage.inputs},
            "sources": self._sources(stage),
        }
        digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]
        self._fingerprints[stage.name] = digest
        return digest

    def directory(self, stage_name: str) -> StageDir:
        """Where the stage's result lies under this configuration."""
        return self.home.child(f"{stage_name}/{self._fingerprints[stage_name]}")

    def manifest(self, stage_name: str) -> Manifest | None:
        """The stage's manifest, or None when it has not finished.

        Raises:
            StorageError: the manifest is there but corrupt.
        """
        out = self.directory(stage_name)
        if not out.exists("manifest.json"):
            return None
        try:
            return Manifest.model_validate(out.read_json("manifest.json"))
        except ValidationError as error:
            raise StorageError(
                f"{out.path('manifest.json')} is corrupt ({error.error_count()} fields); "
                f"delete {out.root} and run again"
            ) from None

    def execute(self, stage: Stage) -> Manifest:
        """Run the stage unless its result already stands; publish it by writing its manifest last."""
        fingerprint = self.fingerprint(stage)
        out = self.directory(stage.name)
        done = self.manifest(stage.name)
        if done is None:
            resumed = out.exists()
            with self._lock(out.make()):
                done = self.manifest(stage.name)  # another process may have finished it meanwhile
                if done is None:
                    self.log(f"{stage.name}: {'continues' if resumed else 'starts'} ({fingerprint})")
                    return self._compute(stage, out)
        self.log(f"{stage.name}: up to date ({fingerprint}), skipped")
        return done

    def _compute(self, stage: Stage, out: StageDir) -> Manifest:
        inputs = {name: self.directory(name) for name in stage.inputs}
        started = time.monotonic()
        with PeakMemory() as memory:
            facts = stage.function(_Sections(self.config, stage.sections), inputs, out)  # type: ignore[arg-type]
        manifest = Manifest(
            stage=stage.name,
            fingerprint=self._fingerprints[stage.name],
            version=stage.version,
            code=lgsid_ray.__version__,
            seed=self.config.seed,
            config={name: getattr(self.config, name).model_dump(mode="json", by_alias=True) for name in stage.sections},
            inputs={name: self._fingerprints[name] for name in stage.inputs},
            sources=self._sources(stage),
            facts=facts,
            seconds=round(time.monotonic() - started, 2),
            peak_memory_mb=round(memory.peak_mb, 1),
            finished=datetime.now(UTC).isoformat(timespec="seconds"),
        )
        out.write_json("manifest.json", manifest.model_dump(mode="json"))
        out.remove(SCRATCH)  # not before: a stage that is killed here must still find what it would continue from
        self.log(f"{stage.name}: done in {manifest.seconds:.0f} s, peak {manifest.peak_memory_mb / 1024:.1f} GiB")
        return manifest

    def _sources(self, stage: Stage) -> list[str]:
        return stage.sources(self.config) if stage.sources else []

    @contextmanager
    def _lock(self, out: StageDir) -> Iterator[None]:
        """Make a second process wait for the first to finish a stage; object stores have no locks."""
        if not out.is_local:
            yield
            return
        with open(out.path(".lock"), "w", encoding="ascii") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                self.log(f"{out.root}: another process is computing this stage; waiting for it")
                fcntl.flock(file, fcntl.LOCK_EX)
            yield
