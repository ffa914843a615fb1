"""Studies without Ray: their files, where figures stand, and the table they end in."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from lgsid_ray.cli import studies as commands
from lgsid_ray.config import load
from lgsid_ray.config.study import load_study
from lgsid_ray.errors import ConfigError, GateError
from lgsid_ray.execution.run import Run
from lgsid_ray.execution.storage import StageDir
from lgsid_ray.pipeline import standing
from lgsid_ray.studies import runs
from lgsid_ray.studies.measures import measure
from lgsid_ray.studies.runs import Outcome, Setting, settings
from lgsid_ray.studies.study import run_study
from lgsid_ray.studies.table import comma_separated, markdown, summarise, write

METRICS: dict[str, dict[str, Any]] = {
    "frontier": {
        "retrieval": [
            {"space": "origin", "group": "all", "k": 5, "district": 0.2},
            {"space": "aligned", "group": "all", "k": 5, "district": 0.6},
        ],
        "frontier": {"all": {"gap_closed": {"aligned": 0.8, "late_fusion": None}}},
    },
    "rank": {"models": {"din/hgit": {"test": {"mean": {"auc": 0.76}}}}, "ok": True},
}


@pytest.mark.parametrize(
    ("where", "value"),
    [
        ("frontier:retrieval[space=aligned,group=all,k=5].district", 0.6),
        ("frontier:retrieval[space=aligned,group=all,k=10].district", None),
        ("frontier:frontier.all.gap_closed.aligned", 0.8),
        ("frontier:frontier.all.gap_closed.late_fusion", None),
        ("frontier:frontier.all", None),
        ("rank:models.din/hgit.test.mean.auc", 0.76),
        ("rank:ok", None),
        ("generate:models", None),
    ],
)
def test_figures_are_found_by_their_path(where: str, value: float | None) -> None:
    assert measure(METRICS, where) == value


def _study(tmp_path: Path, text: str, base: str = "seed: 3\ntokenizer: {sizes: [8, 4]}\n") -> str:
    (tmp_path / "base.yaml").write_text(base)
    (tmp_path / "study.yaml").write_text(text)
    return str(tmp_path / "study.yaml")


GOOD = """
name: small
base: base.yaml
seeds: [0, 1]
arms: {ours: {}, other: {align.lambda: 1.8, tokenizer: {sizes: [4, 4]}}}
measures: {T@5: 'frontier:retrieval[space=aligned,group=all,k=5].district'}
"""


def test_arms_are_overrides_of_the_base_for_every_seed(tmp_path: Path) -> None:
    study, base = load_study(_study(tmp_path, GOOD), ["align.steps=9"])
    chosen = settings(base, study.arms, study.seeds, "study")
    assert [(one.arm, one.seed) for one in chosen] == [("ours", 0), ("ours", 1), ("other", 0), ("other", 1)]
    assert [one.config.seed for one in chosen] == [0, 1, 0, 1]
    assert [one.config.align.model_dump().get("lambda_") for one in chosen] == [None, None, 1.8, 1.8]
    assert [one.config.tokenizer.sizes for one in chosen][1:3] == [[8, 4], [4, 4]]
    assert {one.config.align.steps for one in chosen} == {9}
    assert {one.config.catalogue.seed for one in chosen} == {0}


def test_every_seed_may_hold_out_something_else(tmp_path: Path) -> None:
    study, base = load_study(_study(tmp_path, GOOD + "resplit: true"))
    chosen = settings(base, study.arms, study.seeds, "study", study.resplit)
    assert [(one.config.seed, one.config.catalogue.seed) for one in chosen] == [(0, 0), (1, 1), (0, 0), (1, 1)]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (GOOD.replace("name: small", "name: a/b"), "name"),
        (GOOD.replace("frontier:retr", "retr"), "stage:path"),
        (GOOD.replace("k=5", "k={k}"), "T@5: k stands for nothing; space, tokenizer do"),
        (GOOD.replace("arms:", "arm:"), "arm: unknown key"),
        (GOOD.replace("base.yaml", "nowhere.yaml"), "nowhere.yaml: no such file"),
    ],
)
def test_a_study_that_is_refused_names_the_key(tmp_path: Path, text: str, told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        load_study(_study(tmp_path, text))


def test_an_arm_that_is_refused_is_named(tmp_path: Path) -> None:
    study, base = load_study(_study(tmp_path, GOOD.replace("1.8", "many")))
    with pytest.raises(ConfigError, match=r"(?s)arm 'other'.*align.lambda"):
        settings(base, study.arms, study.seeds, "study small")


def test_a_seed_that_stands_twice_is_refused(tmp_path: Path) -> None:
    study, base = load_study(_study(tmp_path, GOOD.replace("[0, 1]", "[1, 0, 1]")))
    with pytest.raises(ConfigError, match=r"study small: seed 1 stands twice in \[1, 0, 1\]"):
        settings(base, study.arms, study.seeds, "study small")


def test_a_mapping_changes_what_it_names_and_leaves_the_rest(tmp_path: Path) -> None:
    text = GOOD.replace("tokenizer: {sizes: [4, 4]}", "tokenizer: {kind: res_kmeans, kmeans: {iterations: 3}}")
    study, base = load_study(_study(tmp_path, text))
    tokenizer = settings(base, study.arms, study.seeds, "study")[-1].config.tokenizer
    assert (tokenizer.kind, tokenizer.sizes, tokenizer.kmeans.iterations) == ("res_kmeans", [8, 4], 3)


def test_a_measure_that_no_arm_reaches_is_refused_before_anything_runs(tmp_path: Path) -> None:
    text = GOOD.replace("arms:", "until: tokenise\narms:")
    study, base = load_study(_study(tmp_path, text))
    with pytest.raises(ConfigError, match="'T@5' is of stage frontier, which no arm runs up to tokenise"):
        run_study(study, base, str(tmp_path / "run"), print)


def test_a_measure_of_no_stage_is_refused_before_anything_runs(tmp_path: Path) -> None:
    study, base = load_study(_study(tmp_path, GOOD.replace("frontier:", "frontiers:")))
    with pytest.raises(ConfigError, match="'frontiers' is no stage"):
        run_study(study, base, str(tmp_path / "run"), print)


def test_a_run_that_fails_leaves_the_others_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def run_one(setting: Setting, *_: Any) -> dict[str, float]:
        if setting.label == "ours, seed 0":
            raise RuntimeError("worker failed") from GateError("diverged")  # as Ray Train tells it
        if setting.label == "other, seed 1":
            raise KeyError("bug")
        return {"T@5": 0.5}

    monkeypatch.setattr(runs, "run_one", run_one)
    study, base = load_study(_study(tmp_path, GOOD))
    chosen = settings(base, study.arms, study.seeds, "study")
    found = runs.run_all(chosen, "nowhere", "frontier", study.measures, 1, lambda _: None)
    assert [one.error for one in found] == ["diverged", None, None, "internal error: KeyError: 'bug'"]


def test_measures_name_the_runs_tokenizer_and_the_embeddings_it_reads(
    tmp_path: Path,
) -> None:
    run = Run(str(tmp_path), load(None, ["tokenizer.embeddings=origin"]))
    wanted = {"T@5": "frontier:retrieval[space={space},group=all,k=5].district", "AUC": "rank:{tokenizer}"}
    for stage in standing(run)[-1][0].inputs.values():
        if stage in METRICS:
            run.directory(stage).write_json("metrics.json", {**METRICS[stage], "hgit": 0.76})
    assert runs.read_measures(run, "report", wanted) == {"T@5": 0.2, "AUC": 0.76}


def _outcomes(tmp_path: Path) -> list[Outcome]:
    study, base = load_study(_study(tmp_path, GOOD))
    ours0, ours1, other0, other1 = settings(base, study.arms, study.seeds, "study")
    return [
        Outcome(ours0, {"T@5": 0.5, "AUC": 0.7}),
        Outcome(ours1, {"T@5": 0.6, "AUC": None}),
        Outcome(other0, {}, "diverged"),
        Outcome(other1, {"T@5": 0.4, "AUC": 0.6}),
    ]


def test_the_table_gives_mean_and_deviation_and_dashes_where_a_seed_is_missing(tmp_path: Path) -> None:
    summary = summarise("Small", ["T@5", "AUC"], _outcomes(tmp_path), {"paper": {"AUC": 0.6276}})
    assert summary.texts() == [
        ["ours", "0.550 ± 0.071", "–"],
        ["other", "–", "–"],
        ["paper", "–", "0.628"],
    ]
    assert "| ours | 0.550 ± 0.071 | – |" in markdown(summary)
    assert "other, seed 0 has no figures: diverged" in markdown(summary)
    rows = comma_separated(summary).splitlines()
    assert rows[0] == "arm,T@5 mean,T@5 sd,AUC mean,AUC sd"
    assert rows[1].startswith("ours,0.55,0.0707")
    assert rows[3] == "paper,,,0.6276,"


@pytest.mark.parametrize(
    ("columns", "lines"),
    [
        (["AUC"], [["arm", "AUC"], ["one", "0.500"], ["two", "0.250"]]),
        (
            ["AUC", "Hit@10", "km"],
            [["measure", "one", "two"], ["AUC", "0.500", "0.250"], ["Hit@10", "–", "–"], ["km", "–", "–"]],
        ),
    ],
)
def test_the_terminal_shows_many_measures_below_each_other(
    columns: list[str], lines: list[list[str]], tmp_path: Path
) -> None:
    config = load(None)
    arms = [("one", 0.5), ("two", 0.25)]
    outcomes = [Outcome(Setting(arm, 0, config), {"AUC": value}) for arm, value in arms]
    with commands.console.capture() as captured:
        commands._print(summarise("t", columns, outcomes, {}))
    shown = [line.replace("│", " ").replace("┃", " ").split() for line in captured.get().splitlines()]
    assert [words for words in shown if words and words[0] in {line[0] for line in lines}] == lines


def test_whether_two_columns_order_the_arms_alike_is_told(tmp_path: Path) -> None:
    study, base = load_study(_study(tmp_path, GOOD))
    first = settings(base, study.arms, study.seeds, "study")[0]
    figures = {"a": (1.0, 10.0, 0.1), "b": (2.0, 30.0, 0.4), "c": (3.0, 20.0, 0.5), "d": (4.0, 40.0, None)}
    outcomes = [
        Outcome(replace(first, arm=arm), {"cheap": cheap, "dear": dear, "other": other})
        for arm, (cheap, dear, other) in figures.items()
    ]
    pairs = [("cheap", "dear"), ("cheap", "other")]
    summary = summarise("Small", ["cheap", "dear", "other"], outcomes, {"paper": {"cheap": 0.0, "dear": 99.0}}, pairs)
    # Of four arms one pair of neighbours is the other way round: 1 - 6·2 / (4·15).
    assert "rank correlation 0.80 over 4 arms" in summary.agreement[0]
    assert "rank correlation 1.00 over 3 arms" in summary.agreement[1]
    assert f"- {summary.agreement[0]}" in markdown(summary)
    few = summarise("Small", ["cheap", "dear"], outcomes[:2], {}, pairs[:1]).agreement
    assert "2 arms have both, too few" in few[0]
    with pytest.raises(ConfigError, match="AUX is no column"):
        load_study(_study(tmp_path, f"{GOOD}\nagreement: [[T@5, AUX]]"))


def test_every_figure_is_kept_and_the_page_escapes_what_it_shows(tmp_path: Path) -> None:
    outcomes = _outcomes(tmp_path)
    folder = StageDir(str(tmp_path / "table"))
    write(folder, summarise("<b>Small</b>", ["T@5", "AUC"], outcomes, {}), outcomes)
    table = pq.read_table(tmp_path / "table" / "table.parquet").to_pylist()
    assert {"arm": "ours", "seed": 1, "measure": "T@5", "value": 0.6} in table
    assert len(table) == 6
    page = (tmp_path / "table" / "report.html").read_text()
    assert "&lt;b&gt;Small" in page
    assert "<b>Small" not in page
    assert "diverged" in page
