"""The ranking experiment as a whole, without Ray: it learns, it is fair to Origin, every setting counts."""

import hashlib
import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from lgsid_ray.config import parse
from lgsid_ray.config.recommend import DinConfig, RankConfig
from lgsid_ray.errors import ConfigError
from lgsid_ray.execution.stage import Cell
from lgsid_ray.execution.storage import StageDir
from lgsid_ray.recommend.log import TEST, Log, Unusable
from lgsid_ray.recommend.panel import Panel
from lgsid_ray.recommend.rankers.experiment import Ranking
from lgsid_ray.recommend.rankers.paired import write_scores
from lgsid_ray.recommend.rankers.registry import RANKERS
from lgsid_ray.recommend.rankers.table import table
from tests.recommend.conftest import ITEMS, TASTES, Cells, Fit, panel_of, write_sids

SMALL = DinConfig(dimension=8, hidden=8)
QUICK = RankConfig(history=6, epochs=3, batch_size=128, learning_rate=5e-3)


def trained(ranking: Ranking, cells: list[Cell], plain_fit: Fit) -> tuple[Panel, dict[str, Any]]:
    """The cells' panel, and what each cell measured."""
    panel = panel_of(ranking, cells)
    plain_fit(ranking.config, panel, ranking.batches(cells))
    return panel, {cell.name: ranking.judge(cell, panel.members[cell.name]) for cell in cells}


def test_sids_let_it_learn_a_taste_that_trivial_rankers_cannot_see(
    xyz: np.ndarray, clicks: Log, rank_cells: Cells, plain_fit: Fit
) -> None:
    ranking = Ranking.of(QUICK, ITEMS, xyz, clicks, 0)
    _, found = trained(ranking, rank_cells(SMALL), plain_fit)
    assert found["rank/din/hgit/0"]["test"]["auc"] > 0.98
    assert found["rank/din/hgit/0"]["test"]["logloss"] < 0.45
    assert found["rank/din/origin/0"]["test"]["auc"] < found["rank/din/hgit/0"]["test"]["auc"] - 0.03
    assert abs(ranking.baselines()["popularity"]["test"]["auc"] - 0.5) < 0.1
    assert ranking.describe()["kind"] == "impressions"
    json.dumps([found, ranking.baselines(), ranking.describe()], allow_nan=False)


def test_the_table_tells_means_and_gains_seed_by_seed(xyz: np.ndarray, clicks: Log, tmp_path: Any) -> None:
    inputs, cells = {}, [("din/origin", 0, 0.5), ("din/origin", 1, 0.7), ("din/hgit", 1, 0.9), ("din/rq_vae", 7, 0.9)]
    ranking = Ranking.of(QUICK, ITEMS, xyz, clicks, 0)
    label = ranking.samples.label[ranking.samples.of(TEST)]
    for arm, seed, auc in cells:
        folder = StageDir(f"{tmp_path}/{arm}/{seed}").make()
        figures = {"auc": auc, "gauc": None}
        folder.write_json("metrics.json", {"valid": figures, "test": figures, "best_epoch": seed + 1})
        write_scores(folder, label if arm == "din/hgit" else np.zeros(len(label)))
        inputs[f"rank/{arm}/{seed}"] = folder
    found = table(ranking, {"catalogue": StageDir("nowhere"), **inputs})
    assert found["models"]["din/origin"]["test"]["mean"] == {"auc": pytest.approx(0.6), "gauc": None}
    assert found["models"]["din/origin"]["test"]["std"]["auc"] == pytest.approx(0.1)
    assert [run["auc"] for run in found["models"]["din/origin"]["valid"]["seeds"]] == [0.5, 0.7]
    assert found["gain"].keys() == {"din/hgit"}  # no seed of the other arm has an origin beside it
    assert found["gain"]["din/hgit"]["test"]["mean"] == {"auc": pytest.approx(0.2), "gauc": None}
    # With SIDs it knows every label, without it knows nothing, whoever is drawn.
    assert found["gain"]["din/hgit"]["test"]["interval"] == {
        name: pytest.approx((0.5, 0.5)) for name in ("auc", "gauc")
    }
    assert found["best_epoch"] == {"din/origin/0": 1, "din/origin/1": 2, "din/hgit/1": 2, "din/rq_vae/7": 8}
    assert found["baselines"].keys() == {"trees", "popularity", "repeat", "nearness"}


def test_cells_read_their_own_tokenizer_and_origin_none(
    xyz: np.ndarray, clicks: Log, rank_cells: Cells, plain_fit: Fit, tmp_path: Any
) -> None:
    origin, hgit = rank_cells(SMALL)
    index = np.arange(ITEMS)
    folder = write_sids(StageDir(str(tmp_path)), (index[::-1, None] % TASTES), index // TASTES)
    other = replace(hgit, name="rank/din/other/0", inputs={"tokenise": folder})
    ranking = Ranking.of(QUICK.model_copy(update={"epochs": 1}), ITEMS, xyz, clicks, 0)
    panel, found = trained(ranking, [origin, hgit, other], plain_fit)
    widths = [member.items.tokens.shape[1] for member in panel.members.values()]
    assert widths == [0, 2, 1]
    assert found[hgit.name] != found[other.name]
    assert trained(ranking, [origin, other], plain_fit)[1][origin.name] == found[origin.name]
    alone = Ranking.of(ranking.config, ITEMS, xyz, clicks, 0)  # which has met no other SIDs before
    assert trained(alone, [other], plain_fit)[1][other.name] == found[other.name]


def test_shuffled_sids_are_another_item_s(xyz: np.ndarray, clicks: Log, rank_cells: Cells) -> None:
    ranking = Ranking.of(QUICK, ITEMS, xyz, clicks, 0)
    given, mixed = (
        panel_of(ranking, rank_cells(SMALL.model_copy(update={"sids": sids}))).members["rank/din/hgit/0"].items.tokens
        for sids in ("levels", "shuffled")
    )
    assert (given != mixed).any(dim=1).float().mean() > 0.8
    assert sorted(given.tolist()) == sorted(mixed.tolist())
    assert [spoken.place for spoken in ranking._known.values()] == [slice(0, 8), slice(8, 16)]
    levels, shuffled = (spoken.alike._raw(np.arange(500)) for spoken in ranking._known.values())
    assert (levels != shuffled).any()


def test_cells_learn_side_by_side_what_they_would_alone(
    xyz: np.ndarray, clicks: Log, rank_cells: Cells, plain_fit: Fit
) -> None:
    config = QUICK.model_copy(update={"epochs": 1, "clip": 0.1})
    ranking, cells = Ranking.of(config, ITEMS, xyz, clicks, 0), rank_cells(SMALL, seeds=2)
    together, figures = trained(ranking, cells, plain_fit)
    for cell in cells:
        panel, alone = trained(ranking, [cell], plain_fit)
        assert alone[cell.name] == figures[cell.name]
        torch.testing.assert_close(
            panel.members[cell.name].state_dict(), together.members[cell.name].state_dict(), rtol=0, atol=0
        )


def test_seeds_differ_and_repeat(xyz: np.ndarray, clicks: Log, rank_cells: Cells) -> None:
    ranking, cells = Ranking.of(QUICK, ITEMS, xyz, clicks, 0), rank_cells(SMALL, seeds=2)
    panel, again, other = (panel_of(ranking, cells, seed) for seed in (3, 3, 4))
    first, second = (panel.members[f"rank/din/hgit/{k}"].state_dict() for k in range(2))
    assert not torch.equal(first["head.last.weight"], second["head.last.weight"])
    assert all(torch.equal(a, b) for a, b in zip(panel.parameters(), again.parameters(), strict=True))
    assert not torch.equal(other.members["rank/din/hgit/0"].head.last.weight, first["head.last.weight"])


CHANGES = {
    "history": 3,
    "negatives": 1,
    "near": 0.0,
    "neighbours": 2,
    "rating_threshold": 3.0,
    "cold": 1000,
    "rare": 30,
    "epochs": 1,
    "batch_size": 64,
    "learning_rate": 1e-3,
    "weight_decay": 0.5,
    "clip": 0.01,
}
ELSEWHERE = {
    "enabled": "the plan of stages",
    "long": "tests/recommend/test_ranking_samples.py; only rankers that search read it",
    "seeds": "the plan of stages",
    "models": "the plan of stages; of the kind below",
    "trainer": "the training harness",
}
MODEL = {"dimension": 4, "hidden": 4, "sids": "ngrams", "id_dropout": 0.4}


def test_every_field_of_the_section_is_walked() -> None:
    assert {*CHANGES, *ELSEWHERE} == set(RankConfig.model_fields)
    assert {*MODEL, "kind"} == set(DinConfig.model_fields)


@pytest.mark.parametrize("field", [*CHANGES, *MODEL])
def test_every_field_changes_the_result(
    field: str, xyz: np.ndarray, clicks: Log, rank_cells: Cells, plain_fit: Fit
) -> None:
    log = clicks
    if field in ("near", "neighbours"):
        log = replace(clicks, label=np.ones(len(clicks)), kind="visits")
    if field == "rating_threshold":
        log = replace(clicks, label=1.0 + clicks.item % 3, kind="ratings")

    def digest(config: RankConfig, model: DinConfig) -> str:
        panel, found = trained(Ranking.of(config, ITEMS, xyz, log, 0), rank_cells(model), plain_fit)
        weights = b"".join(p.detach().numpy().tobytes() for p in panel.parameters())
        return hashlib.sha256(weights + json.dumps(found).encode()).hexdigest()

    quick = QUICK.model_copy(update={"epochs": 2, "batch_size": 512})
    before = digest(quick, SMALL)
    assert before == digest(quick, SMALL)
    changed = quick.model_copy(update={field: CHANGES[field]}) if field in CHANGES else quick
    model = SMALL.model_copy(update={field: MODEL[field]}) if field in MODEL else SMALL
    assert before != digest(changed, model)


def test_a_split_of_one_kind_is_unusable(xyz: np.ndarray, clicks: Log) -> None:
    blind = replace(clicks, label=np.where(clicks.rank_split == 2, 0.0, clicks.label))
    with pytest.raises(Unusable, match="test split"):
        Ranking.of(QUICK, ITEMS, xyz, blind, 0)


def test_cold_items_are_those_with_few_training_clicks(xyz: np.ndarray, clicks: Log) -> None:
    rare = replace(clicks, label=np.where(clicks.item < 7, 0.0, clicks.label))
    found = Ranking.of(QUICK, ITEMS, xyz, rare, 0)
    assert np.flatnonzero(found.cold).tolist() == list(range(7))
    assert found.describe()["cold_items"] == 7


def test_the_tail_is_what_has_the_last_fifth_of_the_clicks(xyz: np.ndarray, clicks: Log) -> None:
    ranking = Ranking.of(QUICK, ITEMS, xyz, clicks, 0)
    train = ranking.samples.of(0)
    count = np.bincount(ranking.samples.item[train], ranking.samples.label[train], ITEMS)
    assert 0.15 * count.sum() < count[ranking.tail].sum() <= 0.2 * count.sum()
    assert count[ranking.tail].max() <= count[~ranking.tail].min()


def test_a_catalogue_without_coordinates_is_ranked_too(clicks: Log, rank_cells: Cells, plain_fit: Fit) -> None:
    visits = replace(clicks, label=np.ones(len(clicks)), kind="visits")
    ranking = Ranking.of(QUICK.model_copy(update={"epochs": 1}), ITEMS, None, visits, 0)
    _, found = trained(ranking, rank_cells(SMALL), plain_fit)
    assert 0 < found["rank/din/hgit/0"]["test"]["auc"] < 1
    assert ranking.baselines().keys() == {"trees", "popularity", "repeat"}
    assert ranking.describe()["negatives"] == "drawn: popular"


def test_a_model_is_named_or_spelled_out_and_an_unknown_one_refused_with_the_known() -> None:
    named = parse({"rank": {"models": ["din"]}}, "it").rank
    assert named.models == [DinConfig()]
    assert parse({"rank": {"models": [{"kind": "din", "hidden": 3}]}}, "it").rank.models == [DinConfig(hidden=3)]
    assert RankConfig(models=list(RANKERS)).models  # every one that is registered has a configuration
    for models in (["dim"], [{"kind": "dim"}]):
        with pytest.raises(ConfigError, match=r"rank.models.0: .*'dim'.*'din'"):
            parse({"rank": {"models": models}}, "it")
    with pytest.raises(ValidationError, match="each kind once"):
        RankConfig(models=["din", {"kind": "din", "hidden": 3}])
    assert named.identity() == RankConfig(models=[DinConfig(hidden=3)], seeds=1, enabled=False).identity()
