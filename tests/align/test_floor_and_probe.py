"""λ as a dual variable, the probe, the order of the triples, the ranking metrics and their gate."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from scipy.stats import kendalltau
from sklearn.metrics import ndcg_score

from lgsid_ray.align.floor import CLOSE, LOOKS, MOST, FloorController, share_at
from lgsid_ray.align.probe import ControlVariate, draw_probe, draw_queries, nearest, probe_metrics, similarities
from lgsid_ray.align.ranking import ranking_metrics, require_better_than_chance
from lgsid_ray.align.triples import batch_rows
from lgsid_ray.artifacts import Embeddings
from lgsid_ray.artifacts.embeddings import column
from lgsid_ray.errors import GateError
from lgsid_ray.execution.storage import StageDir


def test_lambda_rises_while_the_floor_is_broken_and_falls_with_slack() -> None:
    controller = FloorController("auto", 0.97, origin=0.8)
    before = controller.value
    controller.observe(0.8 * 0.96)
    raised = controller.value
    assert raised > before
    controller.observe(0.8 * 0.99)
    assert controller.value < raised
    other = FloorController("auto", 0.97, origin=0.8)
    other.load_state_dict(controller.state_dict())
    assert other.value == controller.value


def test_fixed_lambda_stays() -> None:
    controller = FloorController(1.8, 0.97, origin=0.8)
    controller.observe(0.1)
    assert controller.value == 1.8


def test_dual_ascent_settles_at_the_floor() -> None:
    """A stand-in policy whose similarity grows with λ must end at the floor."""
    controller = FloorController("auto", 0.97, origin=1.0)
    for _ in range(60):
        controller.observe(1 - 0.06 / (1 + controller.value))
    assert 1 - 0.06 / (1 + controller.value) == pytest.approx(0.97, abs=2e-3)


def test_probe_metrics_against_a_loop() -> None:
    rng = np.random.default_rng(0)
    policy, reference = (
        torch.nn.functional.normalize(torch.tensor(rng.standard_normal((30, 5))), dim=1) for _ in range(2)
    )
    districts = torch.tensor(rng.integers(0, 4, 30))
    similar, same = [], []
    for i in range(30):
        order = [j for j in torch.argsort(-(policy @ policy[i])).tolist() if j != i][:5]
        similar += [float(reference[i] @ reference[j]) for j in order]
        same += [bool(districts[i] == districts[j]) for j in order]
    found = probe_metrics(policy, reference, districts)
    assert found["similarity"] == pytest.approx(np.mean(similar))
    assert found["district"] == pytest.approx(np.mean(same))
    assert similarities(policy, reference, 7) == pytest.approx(np.reshape(similar, (30, 5)).mean(axis=1)[:7])


def test_unknown_districts_equal_nothing() -> None:
    vectors = torch.eye(3).double()[[0, 0, 1, 1]]
    known = probe_metrics(vectors, vectors, torch.tensor([4, 4, 7, 7]), k=1)
    some = probe_metrics(vectors, vectors, torch.tensor([4, 4, -1, -1]), k=1)
    assert (known["district"], some["district"]) == (1.0, 0.5)


def test_probe_takes_whole_cities() -> None:
    cities = np.random.default_rng(0).integers(0, 20, 400)
    probe = draw_probe(cities, 100, seed=1)
    assert len(probe) == 100
    counts = np.bincount(cities[probe], minlength=20)
    partial = [city for city in range(20) if 0 < counts[city] < (cities == city).sum()]
    assert len(partial) <= 1
    assert np.array_equal(probe, draw_probe(cities, 100, seed=1))
    assert not np.array_equal(probe, draw_probe(cities, 100, seed=2))


def test_fewer_queries_are_the_first_of_more() -> None:
    queries = draw_queries(400, 100, seed=1)
    assert len(np.unique(queries)) == 100
    assert np.array_equal(queries, draw_queries(400, 300, seed=1)[:100])
    assert not np.array_equal(queries, draw_queries(400, 100, seed=2))
    assert sorted(draw_queries(400, 1000, seed=1)) == list(range(400))


def test_every_epoch_takes_every_triple_once() -> None:
    steps = [batch_rows(37, 8, step, seed=3) for step in range(37 * 2 // 8 + 1)]
    drawn = np.concatenate(steps)
    assert sorted(drawn[:37]) == list(range(37))
    assert sorted(drawn[37:74]) == list(range(37))
    assert not np.array_equal(drawn[:37], drawn[37:74])
    assert np.array_equal(batch_rows(37, 8, 5, seed=3), steps[5])


def test_ranking_metrics_against_scipy_and_sklearn() -> None:
    rng = np.random.default_rng(0)
    scores, labels = rng.standard_normal((40, 7)), rng.permuted(np.tile(np.arange(1, 8) / 7, (40, 1)), axis=1)
    found = ranking_metrics(scores, labels)
    assert found["ndcg"] == pytest.approx(ndcg_score(labels, scores))
    taus = [kendalltau(a, b).statistic for a, b in zip(scores, labels, strict=True)]
    assert found["tau"] == pytest.approx(np.mean(taus))
    assert found["accuracy_chance"] == pytest.approx(1 / 7)
    chance = [ndcg_score(labels[:1], rng.permuted(labels[:1], axis=1)) for _ in range(4000)]
    assert ranking_metrics(scores[:1], labels[:1])["ndcg_chance"] == pytest.approx(np.mean(chance), abs=5e-3)


def test_tied_scores_earn_no_accuracy() -> None:
    """Negatives of one district have one prompt, hence one score; picking the first of them would be luck."""
    labels = np.tile([1.0, 0.75, 0.5, 0.25], (10, 1))
    assert ranking_metrics(np.zeros((10, 4)), labels)["accuracy"] == pytest.approx(0.25)


def test_the_gate() -> None:
    rng = np.random.default_rng(0)
    labels = rng.permuted(np.tile(np.arange(1.0, 9.0), (100, 1)), axis=1)
    noise = ranking_metrics(rng.standard_normal((100, 8)), labels)
    with pytest.raises(GateError, match="no better than chance"):
        require_better_than_chance(noise, allow=False)
    require_better_than_chance(noise, allow=True)
    require_better_than_chance(ranking_metrics(labels + rng.standard_normal((100, 8)), labels), allow=False)


@pytest.mark.parametrize("power", [1.5, 2.0, 2.5])
@pytest.mark.parametrize("lost", [0.01, 0.03, 0.08, 0.3])
@pytest.mark.parametrize("floor", [0.95, 0.97, 0.99])
def test_the_share_holds_the_floor_within_few_looks(power: float, lost: float, floor: float) -> None:
    looks = list[float]()

    def kept(share: float) -> float:
        looks.append(share)
        return 1 - lost * share**power

    share, left = share_at(floor, kept)
    assert left == 1 - lost * share**power
    assert len(looks) <= LOOKS
    assert max(looks) <= MOST
    reachable = max(floor, 1 - lost * MOST**power)
    assert left == pytest.approx(reachable, abs=max(CLOSE, 0.002))


def test_a_floor_of_all_meaning_leaves_nothing_of_the_adapters() -> None:
    assert share_at(1.0, lambda share: 1 - 0.1 * share**2) == (0.0, 1.0)


def test_a_model_that_costs_nothing_is_believed_to_the_bound() -> None:
    tried = list[float]()
    share_at(0.97, lambda share: tried.append(share) or 1.0)  # type: ignore[func-returns-value]
    assert tried == [1.0, MOST]


def stored(rows: np.ndarray, folder: Path) -> Embeddings:
    """As embeddings of length 1, in three parts."""
    rows = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    ids = [f"i{i}" for i in range(len(rows))]
    table = pa.table({"item_index": np.arange(len(rows)), "item_id": ids, "embedding": column(rows)})
    embeddings = Embeddings(StageDir(str(folder)))
    for part, (start, stop) in enumerate([(0, 3), (3, 53), (53, len(rows))]):
        embeddings.write(table.slice(start, stop - start), f"part-{part:05d}.parquet")
    return embeddings


@pytest.mark.parametrize("block", [5, 1024])
def test_the_nearest_are_those_of_the_whole_table(block: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lgsid_ray.align.probe._BLOCK", block)
    embeddings = stored(np.random.default_rng(0).standard_normal((90, 6)).astype(np.float32), tmp_path)
    rows, queries = embeddings.of(np.arange(90)), np.arange(0, 90, 4)[::-1]
    for asked, found in zip(queries, nearest(embeddings, queries, 5), strict=True):
        others = np.delete(np.arange(90), asked)
        assert found.tolist() == others[np.argsort(-(rows[others] @ rows[asked]))][:5].tolist()
    assert nearest(embeddings, queries, k=90).shape == (len(queries), 89)  # itself is not among them


def test_what_queries_lose_in_a_known_space_tells_their_luck(tmp_path: Path) -> None:
    """A policy between reference and teacher: the few's word, adjusted, is the many's, much nearer than as it is."""
    rng = np.random.default_rng(0)
    # Some items have neighbours that the teacher moves them away from, others do not: so their losses differ.
    base = rng.standard_normal((60, 8))[rng.integers(0, 60, 600)] + 0.1 * rng.standard_normal((600, 8))
    away = base + 1.5 * (rng.random((600, 1)) < 0.4) * rng.standard_normal((600, 8))
    reference, teacher, policy = (
        stored(one.astype(np.float32), tmp_path / name)
        for name, one in (("reference", base), ("teacher", away), ("policy", 0.3 * base + 0.7 * away))
    )
    every = np.arange(600)
    spaces = [torch.tensor(space.of(every)) for space in (reference, policy, teacher)]
    origin, trained, taught = (similarities(space, spaces[0], 600) for space in spaces)
    plain, adjusted = [], []
    for seed in range(40):
        asked = draw_queries(600, 600, seed)
        found = [nearest(space, asked, 5) for space in (teacher, reference)]
        control = ControlVariate.of(reference, asked, *found, 60)
        assert control.lost == pytest.approx((origin - taught)[asked[:60]], abs=1e-6)
        assert control.mean == pytest.approx((origin - taught).mean(), abs=1e-6)
        lost = (origin - trained)[asked[:60]]
        plain.append(lost.mean() - (origin - trained).mean())
        adjusted.append(control.adjusted(lost) - (origin - trained).mean())
    assert np.sqrt(np.mean(np.square(adjusted))) < 0.5 * np.sqrt(np.mean(np.square(plain)))


def test_where_the_known_space_loses_nothing_a_sample_stands_for_itself() -> None:
    assert ControlVariate(np.zeros(3), 0.0).adjusted(np.array([0.1, 0.2, 0.6])) == pytest.approx(0.3)
