"""The table of stages: which a configuration has, what each rests on, and what a change reaches."""

from pathlib import Path
from typing import Any

import pytest

from lgsid_ray import pipeline
from lgsid_ray.config import load
from lgsid_ray.errors import ConfigError
from lgsid_ray.execution.run import Run
from lgsid_ray.pipeline import ENTRIES, STAGES, needed, plan, standing


def names(*overrides: str, until: str | None = None) -> list[str]:
    return [stage.name for stage in needed(load(None, list(overrides)), until)]


def fingerprints(folder: Path, *overrides: str) -> dict[str, str]:
    run = Run(str(folder), load(None, list(overrides)))
    return {stage.name: run.fingerprint(stage.name) for stage, _ in standing(run)}


@pytest.mark.parametrize("overrides", [[], ["tokenizer.embeddings=origin"], ["rank.enabled=false"]])
def test_every_stage_comes_after_what_it_reads(overrides: list[str]) -> None:
    seen: set[str] = set()
    for stage in plan(load(None, overrides)):
        assert set(stage.inputs.values()) <= seen, stage.name
        assert stage.name not in seen
        seen.add(stage.name)


def test_functions_checks_and_sources_exist_and_sections_too() -> None:
    config = load(None)
    for entry in ENTRIES:
        stage = entry.stage
        for reference in filter(None, (stage.function, stage.check, stage.sources)):
            assert callable(pipeline.function_of(reference)), reference
        assert all(hasattr(config, section) for section in stage.sections)
        assert stage.summary == STAGES[stage.name]


def test_cells_are_named_by_model_tokenizer_and_seed() -> None:
    found = names("rank.seeds=2", "tokenizer.kind=res_kmeans")
    assert [name for name in found if name.startswith("rank/")] == [
        "rank/din/origin/0",
        "rank/din/origin/1",
        "rank/din/res_kmeans/0",
        "rank/din/res_kmeans/1",
    ]
    assert "tokenise/res_kmeans" in found
    assert "tokenise/mine" in names("tokenizer.name=mine", until="tokenise")
    assert names(until="rank/din/origin/0") == ["catalogue", "rank/din/origin/0"]


def test_without_alignment_nothing_of_it_is_planned() -> None:
    found = names("tokenizer.embeddings=origin")
    assert not {"sample", "embed_lists", "reward", "prefer", "align", "embed_aligned"} & set(found)
    assert names("tokenizer.embeddings=origin", until="sample") == ["catalogue", "sample"]
    with pytest.raises(
        ConfigError,
        match=r"'align' is not part of this run; to align .* align\.enabled=true; its stages are catalogue, sample",
    ):
        names("tokenizer.embeddings=origin", until="align")


@pytest.mark.parametrize(
    ("overrides", "there", "absent"),
    [
        ([], {"fuse"}, {"align", "reward"}),
        (["align.enabled=true"], {"fuse", "align", "embed_aligned"}, {"embed_lists", "reward", "prefer"}),
        (["align.enabled=true", "align.objective=gdpo"], {"fuse", "reward", "prefer", "align"}, set()),
        (["tokenizer.embeddings=aligned", "align.objective=gdpo"], {"reward", "align"}, {"fuse"}),
    ],
)
def test_alignment_brings_what_its_objective_needs(overrides: list[str], there: set[str], absent: set[str]) -> None:
    found = set(names(*overrides))
    assert there <= found
    assert not absent & found
    frontier = next(stage for stage in plan(load(None, overrides)) if stage.name == "frontier")
    assert ("embed_aligned" in frontier.inputs) == ("align" in there)


@pytest.mark.parametrize(
    ("change", "reached"),
    [
        ("rank.seeds=4", {"rank", "report"}),
        ("rank.history=5", {"rank", "report", "rank/din/*", "count"}),
        (
            "tokenizer.min_usage=0",
            {"tokenise", "evaluate", "count", "rank/din/hgit", "rank", "generate", "report"},
        ),
        ("evaluate.queries=9", {"frontier", "evaluate", "report"}),
        ("ray.cpus=1", set()),
        ("tokenizer.kmeans.actors=1", set()),
    ],
)
def test_a_change_reaches_what_rests_on_it_and_nothing_else(tmp_path: Path, change: str, reached: set[str]) -> None:
    before, after = fingerprints(tmp_path), fingerprints(tmp_path, change)
    differing = {name for name in before if before[name] != after[name]}

    def is_reached(name: str) -> bool:
        cell = name.count("/") == 3
        if not cell or name.startswith("generate"):
            return name.partition("/")[0] in reached
        return "rank/din/*" in reached or name.rpartition("/")[0] in reached

    assert differing == {name for name in before if is_reached(name)}


def test_a_new_cell_leaves_the_others_as_they_are(tmp_path: Path) -> None:
    before = fingerprints(tmp_path, "rank.seeds=2")
    after = fingerprints(tmp_path, "rank.seeds=3", "tokenizer.kind=res_kmeans")
    shared = {name for name in before.keys() & after.keys() if name.startswith("rank/")}
    assert shared == {"rank/din/origin/0", "rank/din/origin/1"}
    assert {name: before[name] for name in shared} == {name: after[name] for name in shared}


def test_neighbouring_cells_of_one_function_are_computed_together() -> None:
    groups = pipeline._side_by_side(plan(load(None)))
    assert [len(group) for group in groups if group[0].name.startswith("rank/")] == [6]
    assert sum(len(group) for group in groups) == len(plan(load(None)))
    assert all(len(group) == 1 for group in groups if group[0].cell is None)


def test_a_catalogue_without_coordinates_is_not_aligned(tmp_path: Path) -> None:
    lines: list[str] = []
    run = Run(str(tmp_path), load(None), log=lines.append)
    pipeline._settle(run, {"located": False})
    assert run.config.space == "origin"
    assert "the catalogue has no coordinates" in lines[0]
    again: Any = Run(str(tmp_path), load(None), log=lines.append)
    pipeline._settle(again, {"located": True})
    assert again.config.space == "fused"
    for text in ("tokenizer.embeddings=aligned", "align.enabled=true"):
        asked = Run(str(tmp_path), load(None, [text]))
        with pytest.raises(ConfigError, match="the catalogue has no coordinates"):
            pipeline._settle(asked, {"located": False})


def test_what_was_asked_before_the_catalogue_stood_is_asked_anew(tmp_path: Path) -> None:
    def last(run: Run) -> dict[str, Any]:
        return {stage.name: run.identity(stage) for stage in plan(run.config)}

    early, late = (Run(str(tmp_path), load(None)) for _ in range(2))
    standing(early)  # as the command line does, to see whether Ray is needed
    for run in (early, late):
        run.identity(plan(run.config)[0])
        pipeline._settle(run, {"located": False})
    assert last(early) == last(late)
