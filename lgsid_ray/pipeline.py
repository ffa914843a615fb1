"""The stages of a run, declared once: which room computes what, from which sections and which earlier stages.

The plan, `lgsid --help`, `lgsid status`, job names and docs all read this table. It imports no room: a stage's function
is found by name when it runs.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import TYPE_CHECKING

from lgsid_ray.config import RunConfig
from lgsid_ray.config.recommend import SIDLESS, GenerateCell, Generator, RankCell
from lgsid_ray.errors import ConfigError
from lgsid_ray.execution.stage import Stage, function_of

if TYPE_CHECKING:
    from lgsid_ray.execution.run import Manifest, Run

WEIGHTS = "encoder.stage:weights"


def _always(config: RunConfig) -> bool:
    return True


def _aligned(config: RunConfig) -> bool:
    return config.aligned


@dataclass(frozen=True)
class Entry:
    """A line of the table: a stage, or a family of cells that goes by one name."""

    stage: Stage
    when: Callable[[RunConfig], bool] = _always
    """Whether a configuration has it."""
    inputs: Callable[[RunConfig], Mapping[str, str]] | None = None
    """Where they depend on the configuration."""
    cells: Callable[[RunConfig], list[Stage]] | None = None
    """The cells that are computed before the stage, which puts them together."""
    asked: bool = False
    """Whether it runs only where it is asked for by name; the page does not show it."""


def _same(*names: str) -> dict[str, str]:
    """Inputs whose role is their name."""
    return {name: name for name in names}


def _located(config: RunConfig) -> bool:
    """Whether prompts say where items are."""
    return bool(config.encoder.prompt.location)


def _taught(config: RunConfig) -> bool:
    """Whether fused embeddings are made: to rest SIDs on, or to learn from."""
    return config.space == "fused" or config.distilled


def _probed(config: RunConfig) -> bool:
    """Whether an aligned encoder stands beside fused embeddings."""
    return config.aligned and _taught(config) and _located(config)


def _preferring(config: RunConfig) -> bool:
    return config.preferring


def _lessons(config: RunConfig) -> dict[str, str]:
    """What alignment learns from."""
    return _same("catalogue", "embed", *(["fuse"] if config.distilled else ["reward", "prefer"]))


def _spaces(config: RunConfig) -> dict[str, str]:
    """The catalogue, and all that embeds it whole."""
    beside = {"fuse": _taught(config), "embed_aligned": _aligned(config)}
    return _same("catalogue", "embed", *(stage for stage, there in beside.items() if there))


def _compared(config: RunConfig) -> dict[str, str]:
    beside = {"embed_content": config.evaluate.content, "embed_location": _located(config)}
    return _spaces(config) | _same(*(stage for stage, there in beside.items() if there))


def _questioned(config: RunConfig) -> dict[str, str]:
    return _compared(config) | _same("embed_probes")


def _judged(config: RunConfig) -> dict[str, str]:
    return _spaces(config) | {"tokenise": tokenizer_stage(config)}


def _vectors(config: RunConfig) -> dict[str, str]:
    stage = {"aligned": "embed_aligned", "fused": "fuse", "origin": "embed"}[config.space]
    return {"catalogue": "catalogue", "vectors": stage}


def _fitted_anew(config: RunConfig) -> dict[str, str]:
    return _vectors(config) | {"tokenise": tokenizer_stage(config)}


def _tokenised(config: RunConfig) -> dict[str, str]:
    return {"catalogue": "catalogue", "tokenise": tokenizer_stage(config)}


def _rank_cells(config: RunConfig) -> list[Stage]:
    """Every ranker without SIDs ("origin") and with those of the run's tokenizer, from every initialisation."""
    arms = {"origin": {}, config.tokenizer.label: {"tokenise": tokenizer_stage(config)}}
    return [
        Stage(
            f"rank/{model.kind}/{arm}/{seed}",
            "recommend.rankers.stage:train",
            ("rank",),
            {"catalogue": "catalogue", **sids},
            kind=model.kind,
            cell=RankCell(model=model, seed=seed),
        )
        for model in config.rank.models
        for arm, sids in arms.items()
        for seed in range(config.rank.seeds)
    ]


def _generate_cells(config: RunConfig) -> list[Stage]:
    """Every generator on the SIDs of the run's tokenizer, or without SIDs ("origin"), from every initialisation."""

    def cell(model: Generator, seed: int) -> Stage:
        arm, inputs = (
            ("origin", _same("catalogue")) if model.kind in SIDLESS else (config.tokenizer.label, _tokenised(config))
        )
        return Stage(
            f"generate/{model.kind}/{arm}/{seed}",
            "recommend.generators.stage:train",
            ("generate",),
            inputs,
            kind=model.kind,
            cell=GenerateCell(model=model, seed=seed),
        )

    return [cell(model, seed) for model in config.generate.models for seed in range(config.generate.seeds)]


def _shown(config: RunConfig) -> dict[str, str]:
    """What the page shows. Negatives serve G-DPO alone: without it, the page does not wait for them."""
    shown = [entry for entry in ENTRIES if entry.when(config) and not entry.asked and entry.stage.name != "report"]
    names = [entry.stage.name for entry in shown if entry.stage.name != "sample" or _preferring(config)]
    cells = [cell.name for entry in shown if entry.cells for cell in entry.cells(config)]
    return _same(*cells, *names) | {"tokenise": tokenizer_stage(config)}


def tokenizer_stage(config: RunConfig) -> str:
    """The name of the stage that the run's tokenizer is."""
    return f"tokenise/{config.tokenizer.label}"


# fmt: off
ENTRIES: tuple[Entry, ...] = (
    Entry(Stage("catalogue", "catalog.stage:catalogue", ("catalogue",), seeded=False,
                sources="catalog.stage:source_identities",
                summary="read, validate, label and split items and interactions")),
    Entry(Stage("sample", "sampling.stage:sample", ("sampling",), _same("catalogue"),
                summary="density-aware negatives (Eq 1)")),
    Entry(Stage("embed", "encoder.stage:embed", ("encoder",), _same("catalogue"), seeded=False, sources=WEIGHTS,
                summary="reference embeddings")),
    Entry(Stage("embed_content", "encoder.stage:embed_content", ("encoder",), _same("catalogue"), seeded=False,
                sources=WEIGHTS, summary="embeddings of content-only prompts"),
          when=lambda config: config.evaluate.content),
    Entry(Stage("embed_location", "encoder.fuse:embed_location", ("encoder",), _same("catalogue"), seeded=False,
                sources=WEIGHTS, summary="embeddings of location texts"), when=_located),
    Entry(Stage("fuse", "encoder.fuse:fuse", ("fusion",), _same("catalogue", "embed", "embed_location"),
                summary="location texts put into reference embeddings, without training"), when=_taught),
    Entry(Stage("embed_lists", "encoder.stage:embed_lists", ("encoder",), _same("catalogue", "sample"), seeded=False,
                sources=WEIGHTS, summary="embeddings of mismatched prompts (Eq 1)"), when=_preferring),
    Entry(Stage("reward", "align.stage:reward", ("reward",), _same("sample", "embed_lists"),
                summary="train the reward model (Eq 2-4)"), when=_preferring),
    Entry(Stage("prefer", "preference.stage:prefer", ("preference",), _same("catalogue", "embed"),
                check="preference.districts:require_districts",
                summary="draw preference triples (Eq 5)"), when=_preferring),
    Entry(Stage("align", "align.stage:align", ("align", "encoder"),
                summary="train the embedding model: G-DPO (Eq 6-8), or distillation"), when=_aligned, inputs=_lessons),
    Entry(Stage("embed_aligned", "encoder.stage:embed_aligned", ("encoder",), _same("catalogue", "align"), seeded=False,
                summary="aligned embeddings"), when=_aligned),
    Entry(Stage("frontier", "evaluate.stage:frontier", ("evaluate",),
                summary="how much of geography embeddings hold, at what cost to meaning"), inputs=_compared),
    Entry(Stage("embed_probes", "encoder.probes:embed_probes", ("encoder", "evaluate"), _same("catalogue", "align"),
                sources=WEIGHTS, summary="embeddings of texts that no catalogue holds"), when=_probed),
    Entry(Stage("probes", "evaluate.probes:probes", ("evaluate",),
                summary="what embeddings make of free text, of dropped and of exchanged places"),
          when=_probed, inputs=_questioned),
    Entry(Stage("tokenise", "tokenizer.stage:tokenise", ("tokenizer",), check="tokenizer.stage:require_items",
                summary="semantic IDs (Eq 9-16)"), inputs=_vectors),
    Entry(Stage("stability", "tokenizer.stability:stability", ("tokenizer",), check="tokenizer.stage:require_items",
                summary="how many items another fit would give another SID"), inputs=_fitted_anew, asked=True),
    Entry(Stage("evaluate", "evaluate.stage:evaluate", ("evaluate",),
                summary="what the prefixes of SIDs have in common"), inputs=_judged),
    Entry(Stage("count", "recommend.counts.stage:count", ("rank", "generate"),
                summary="what counting rules make of SIDs, before anything is trained"), inputs=_tokenised),
    Entry(Stage("rank", "recommend.rankers.stage:rank", ("rank",),
                summary="click prediction with and without SIDs"),
          when=lambda config: config.rank.enabled, inputs=_tokenised, cells=_rank_cells),
    Entry(Stage("generate", "recommend.generators.stage:generate", ("generate",), _same("catalogue"),
                summary="next-item generation with SIDs"),
          when=lambda config: config.generate.enabled, cells=_generate_cells),
    Entry(Stage("report", "report.stage:report", ("report",), seeded=False,
                summary="one HTML page"), inputs=_shown),
)
# fmt: on

ALIGNING = {entry.stage.name for entry in ENTRIES if entry.when in (_aligned, _preferring)}
"""The stages that only alignment needs."""

STAGES: Mapping[str, str] = {entry.stage.name: entry.stage.summary for entry in ENTRIES}
"""What the command line calls each stage, and its line of help."""


def plan(config: RunConfig) -> list[Stage]:
    """The stages that this configuration runs, each after the stages it reads."""
    stages: list[Stage] = []
    for entry in ENTRIES:
        if entry.when(config):
            cells = entry.cells(config) if entry.cells else []
            inputs = entry.inputs(config) if entry.inputs else entry.stage.inputs
            stage = replace(entry.stage, inputs={**inputs, **_same(*(cell.name for cell in cells))})
            if stage.name in ("tokenise", "stability"):
                stage = replace(stage, kind=config.tokenizer.kind)
            if stage.name == "tokenise":
                stage = replace(stage, name=tokenizer_stage(config))
            stages += [*cells, stage]
    return stages


def needed(config: RunConfig, until: str | Sequence[str] | None) -> list[Stage]:
    """The stages that `until` rests on, itself last, in order; None: those of the report, which shows what a run makes.

    Raises:
        ConfigError: no stage of this plan bears the name.
    """
    stages, wanted = plan(config), set[str]()
    for name in [until] if isinstance(until, str) else until or ["report"]:
        found = {stage.name for stage in stages if name in (stage.name, stage.family)}
        if not found:
            known = dict.fromkeys(stage.family for stage in stages)
            hint = "; to align the encoder, set align.enabled=true" if name in ALIGNING else ""
            raise ConfigError(f"stage {name!r} is not part of this run{hint}; its stages are {', '.join(known)}")
        wanted |= found
    for stage in reversed(stages):
        if stage.name in wanted:
            wanted |= set(stage.inputs.values())
    return [stage for stage in stages if stage.name in wanted]


def execute(run: "Run", until: str | Sequence[str] | None = None) -> "dict[str, Manifest]":
    """Run the plan, all of it or what stage `until` needs; finished stages are skipped.

    Raises:
        ConfigError: no stage of this plan is called `until`, or a stage's check says that it would fail.
    """
    catalogue = plan(run.config)[0]
    done = {catalogue.name: run.execute(catalogue)}
    facts = done[catalogue.name].facts
    if lost := facts["items_quarantined"] + facts["interactions_quarantined"]:
        run.log(f"catalogue: {lost} rows are unfit; see {run.directory(catalogue.name).path('quarantine.parquet')}")
    _settle(run, facts)
    stages = [stage for stage in needed(run.config, until) if stage.name not in done]
    if run.config.tokenizer.sizes == "auto" and any(stage.family == "tokenise" for stage in stages):
        items, training = sum(facts["item_splits"].values()), facts["item_splits"].get("train", 0)
        sizes = run.config.tokenizer.sized(items, training).codes
        run.log(f"tokenizer.sizes: auto is {sizes} for {items} items, {training} of which train")
    for stage in stages:
        if stage.check:
            function_of(stage.check)(run.config, facts)
    for together in _side_by_side(stages):
        for stage, manifest in zip(together, run.execute_together(together), strict=True):
            done[stage.name] = manifest
            for level in manifest.facts.get("one_code", ()):
                run.log(
                    f"{stage.name}: level {level} gives all items the same code, so it tells none from another; do "
                    "their texts or places differ at all? See the names and labels in the catalogue's items"
                )
    return done


def standing(run: "Run", until: str | Sequence[str] | None = None) -> "list[tuple[Stage, Manifest | None]]":
    """The stages that `execute` would run, each with its manifest, or None where it is yet to be done."""
    catalogue = plan(run.config)[0]
    run.identity(catalogue)
    found = run.manifest(catalogue.name)
    if found is not None:
        _settle(run, found.facts)
    stages = needed(run.config, until)
    for stage in stages:
        run.identity(stage)
    return [(stage, run.manifest(stage.name)) for stage in stages]


def _settle(run: "Run", facts: Mapping[str, object]) -> None:
    """Fit the configuration to a catalogue without coordinates: there is no geography to put in.

    Raises:
        ConfigError: the configuration asks for alignment in so many words.
    """
    if facts["located"]:
        return
    if run.config.aligned:
        asked = "align.enabled" if run.config.align.enabled else "tokenizer.embeddings=aligned"
        raise ConfigError(
            f"{asked}: the catalogue has no coordinates, so nothing can be aligned; map lat and lon, or leave it out"
        )
    if run.config.tokenizer.embeddings != "auto" or run.config.space == "origin":
        return
    run.log("the catalogue has no coordinates: SIDs are made from the reference embeddings")
    tokenizer = run.config.tokenizer.model_copy(update={"embeddings": "origin"})
    run.reconfigure(run.config.model_copy(update={"tokenizer": tokenizer}), kept="catalogue")


def _side_by_side(stages: Sequence[Stage]) -> list[list[Stage]]:
    """Stages in order, neighbouring cells of one function together."""
    numbered = enumerate(stages)
    groups = groupby(numbered, key=lambda pair: pair[1].function if pair[1].cell else pair[0])
    return [[stage for _, stage in members] for _, members in groups]
