"""The stages of a run, in order: which room computes what, from which sections and which earlier stages."""

from lgsid_ray.align.stage import align, reward
from lgsid_ray.catalog.stage import catalogue, source_identities
from lgsid_ray.config import RunConfig
from lgsid_ray.encoder.stage import embed, embed_aligned, embed_content, embed_lists, weights
from lgsid_ray.errors import ConfigError
from lgsid_ray.evaluate.stage import evaluate
from lgsid_ray.execution.run import Manifest, Run, Stage
from lgsid_ray.preference.stage import prefer
from lgsid_ray.recommend.stage import generate, rank
from lgsid_ray.report.stage import report
from lgsid_ray.sampling.stage import sample
from lgsid_ray.tokenizer.stage import require_items, tokenise


def plan(config: RunConfig) -> list[Stage]:
    """The stages that this configuration runs, each after the stages it reads."""
    aligned = config.tokenizer.embeddings == "aligned"
    vectors = "embed_aligned" if aligned else "embed"
    content = config.evaluate.content
    stages = [
        Stage(
            "catalogue",
            catalogue,
            sections=("catalogue",),
            seeded=False,
            sources=source_identities,
            summary="read, validate, label and split items and interactions",
        ),
        Stage("sample", sample, ("sampling",), ("catalogue",), summary="density-aware negatives (Eq 1)"),
        Stage(
            "embed", embed, ("encoder",), ("catalogue",), seeded=False, sources=weights, summary="reference embeddings"
        ),
    ]
    if content:
        stages.append(
            Stage(
                "embed_content",
                embed_content,
                ("encoder",),
                ("catalogue",),
                seeded=False,
                sources=weights,
                summary="embeddings of content-only prompts",
            )
        )
    if aligned:
        stages += [
            Stage(
                "embed_lists",
                embed_lists,
                ("encoder",),
                ("catalogue", "sample"),
                sources=weights,
                summary="embeddings of mismatched prompts (Eq 1)",
            ),
            Stage("reward", reward, ("reward",), ("sample", "embed_lists"), summary="reward model (Eq 2-4)"),
            Stage("prefer", prefer, ("preference",), ("catalogue", "embed"), summary="preference triples (Eq 5)"),
            Stage(
                "align",
                align,
                ("align", "encoder"),
                ("catalogue", "embed", "reward", "prefer"),
                summary="G-DPO (Eq 6-8)",
            ),
            Stage(
                "embed_aligned",
                embed_aligned,
                ("encoder",),
                ("catalogue", "align"),
                seeded=False,
                summary="aligned embeddings",
            ),
        ]
    stages.append(Stage("tokenise", tokenise, ("tokenizer",), ("catalogue", vectors), summary="semantic IDs (Eq 9-16)"))
    judged = ["catalogue", "embed", "tokenise"]
    judged += ["embed_content"] if content else []
    judged += ["embed_aligned"] if aligned else []
    stages.append(Stage("evaluate", evaluate, ("evaluate",), tuple(judged), summary="metrics and frontiers"))
    if config.rank.enabled:
        stages.append(Stage("rank", rank, ("rank",), ("catalogue", "tokenise"), summary="click prediction with SIDs"))
    if config.generate.enabled:
        stages.append(
            Stage("generate", generate, ("generate",), ("catalogue", "tokenise"), summary="next-item generation")
        )
    # Negatives serve alignment alone: without it they can be asked for by name, but the page does not wait for them.
    everything = tuple(stage.name for stage in stages if aligned or stage.name != "sample")
    stages.append(Stage("report", report, ("report",), everything, seeded=False, summary="one HTML page"))
    return stages


def execute(run: Run, until: str | None = None) -> dict[str, Manifest]:
    """Run the plan, all of it or what stage `until` needs; finished stages are skipped.

    Raises:
        ConfigError: no stage of this plan is called `until`, or codebooks are larger than the catalogue.
    """
    done: dict[str, Manifest] = {}
    stages = needed(run.config, until)
    for stage in stages:
        done[stage.name] = run.execute(stage)
        if stage.name == "catalogue" and any(later.name == "tokenise" for later in stages):
            # The stage looks for itself too; but alignment stands before it, and may take hours.
            require_items(run.config.tokenizer, done["catalogue"].facts["item_splits"].get("train", 0))
    return done


def is_complete(run: Run, until: str | None = None) -> bool:
    """Whether every stage that `execute` would run is already finished."""
    stages = needed(run.config, until)
    for stage in stages:
        run.fingerprint(stage)
    return all(run.manifest(stage.name) is not None for stage in stages)


def needed(config: RunConfig, until: str | None) -> list[Stage]:
    """The stages that `until` rests on, itself last, in order; None: those of the report, which shows all of them."""
    stages, until = plan(config), until or "report"
    by_name = {stage.name: stage for stage in stages}
    if until not in by_name:
        raise ConfigError(f"stage {until!r} is not part of this run; its stages are {', '.join(by_name)}")
    wanted = {until}
    for stage in reversed(stages):
        if stage.name in wanted:
            wanted |= set(stage.inputs)
    return [stage for stage in stages if stage.name in wanted]
