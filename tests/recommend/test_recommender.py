"""A trained generator at work: checkpoints that know their SIDs, and lists for the users of a log."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch

from lgsid_ray.artifacts import Interactions, Recommendations
from lgsid_ray.config.recommend import GenerateCell, GenerateConfig, SasrecConfig, TigerConfig
from lgsid_ray.errors import ConfigError, InputError, StorageError
from lgsid_ray.execution.stage import Cell
from lgsid_ray.execution.storage import StageDir
from lgsid_ray.geo.distance import haversine_km
from lgsid_ray.recommend.checkpoint import WEIGHTS, label, read_weights, write_weights
from lgsid_ray.recommend.generators.blend import among_found
from lgsid_ray.recommend.generators.candidates import Candidates
from lgsid_ray.recommend.generators.experiment import Generation, generated
from lgsid_ray.recommend.generators.lists import Request, write_lists
from lgsid_ray.recommend.generators.recommender import Limit, Recommender
from lgsid_ray.recommend.log import NO_SPLIT, TEST
from tests.recommend.conftest import Fit, panel_of, write_sids
from tests.recommend.test_generation import XYZ, sequences
from tests.recommend.test_recommend_stages import EVENTS, ITEMS, USERS, inputs

CONFIG = GenerateConfig(history=3, epochs=12, batch_size=64, learning_rate=1e-2)
MODELS = {"tiger": TigerConfig(dimension=32, heads=2), "sasrec": SasrecConfig(dimension=16, dropout=0.0)}


@pytest.fixture(scope="module", params=list(MODELS))
def cell(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, plain_fit: Fit) -> Cell:
    """A trained one, on a log in which the next item has the next number."""
    folder, kind = tmp_path_factory.mktemp("recommender"), request.param
    given = inputs(folder)
    read = given if kind == "tiger" else {"catalogue": given["catalogue"]}
    made = Cell(f"generate/{kind}/x/0", GenerateCell(model=MODELS[kind], seed=0), read, StageDir(f"{folder}/cell"))
    generation = Generation.read(CONFIG, given["catalogue"], 0)
    panel = panel_of(generation, [made])
    plain_fit(CONFIG, panel, generation.batches([made]))
    member = panel.members[made.name]
    write_weights(made.out.make(), member.state_dict(), generation.label(made))
    made.out.write_json("metrics.json", generation.judge(made, member))
    return made


def test_an_open_event_stands_behind_each_user_and_changes_nothing_before_it() -> None:
    before = sequences([3, 1, 4, 1, 5], [2, 6, 0])
    found = before.continued()
    ends = np.flatnonzero(found.split == NO_SPLIT)
    assert ends.tolist() == [5, 9]
    assert found.histories(ends, 4).tolist() == [[5, 1, 4, 1], [0, 6, 2, -1]]
    kept = np.delete(np.arange(10), ends)
    for name in ("user", "item", "time", "split"):
        assert np.delete(getattr(found, name), ends).tolist() == getattr(before, name).tolist()
    assert found.start.tolist() == [0] * 6 + [6] * 4
    one, two = (Candidates(each, 7, XYZ, 3, seed=0) for each in (before, found))
    rows = np.array([1, 3, 4, 6, 7])
    for plain, beside in zip(one.suggest(rows, False), two.suggest(kept[rows], False), strict=True):
        np.testing.assert_array_equal(plain, beside)


def test_every_user_is_told_what_follows_their_last_item(cell: Cell) -> None:
    recommender = Recommender.load(cell, CONFIG, 0)
    users = np.arange(USERS)
    found = recommender.lists(users, 10, new=False).to_pandas()
    assert found.groupby("user_id", sort=False)["rank"].apply(list).tolist() == [list(range(1, 11))] * USERS
    last = (users * 7 + EVENTS - 1) % ITEMS
    first = found[found["rank"] == 1]
    assert first["user_id"].tolist() == [f"u{user}" for user in users]
    assert (first["item_index"].to_numpy() == (last + 1) % ITEMS).mean() > 0.9
    assert (found["item_id"] == "i" + found["item_index"].astype(str)).all()
    assert (found.groupby("user_id")["probability"].sum() <= 1 + 1e-5).all()
    history = {user: [(user * 7 + step) % ITEMS for step in range(EVENTS)] for user in range(USERS)}
    lat, lon = 40 + np.arange(ITEMS) / 50, np.arange(ITEMS) / 40
    for row in found.iloc[::37].itertuples():
        user = int(row.user_id[1:])
        assert row.visits == history[user].count(row.item_index)
        km = haversine_km(lat[last[user]], lon[last[user]], lat[row.item_index], lon[row.item_index])
        assert row.km == pytest.approx(float(km), abs=1e-6)
    if cell.name.startswith("generate/tiger"):
        assert (found["sid"] == found["item_id"]).all()  # as the fixture has it
    else:
        assert found["sid"].isna().all()


def test_what_a_user_has_visited_is_left_out_where_that_is_asked(cell: Cell) -> None:
    recommender = Recommender.load(cell, CONFIG, 0)
    found = recommender.lists(np.array([5, 3]), 30, new=True)
    assert set(found.column("visits").to_pylist()) == {0}
    assert found.column("user_id").to_pylist() == ["u5"] * 20 + ["u3"] * 20  # of 40 items each has visited 20
    assert recommender.history(3, 2).tolist() == [(3 * 7 + 19) % ITEMS, (3 * 7 + 18) % ITEMS]


def test_a_limit_gives_the_best_of_what_is_within_it(cell: Cell) -> None:
    recommender = Recommender.load(cell, CONFIG, 0)
    users = np.array([5, 3, USERS])
    lat, lon = 40 + np.arange(ITEMS) / 50, np.arange(ITEMS) / 40
    # As many beams as items: all are scored.
    each = {new: recommender.lists(users, ITEMS, new).to_pandas() for new in (False, True)}
    for limit in (Limit(km=9.0), Limit(km=9.0, point=(40.3, 0.4)), Limit(km=0.5, point=(0.0, 0.0))):
        for new in (False, True):
            found = recommender.lists(users, ITEMS, new, limit).to_pandas()
            for user in (5, 3):
                last = (user * 7 + EVENTS - 1) % ITEMS
                centre = limit.point or (lat[last], lon[last])
                inside = np.flatnonzero(haversine_km(*centre, lat, lon) <= limit.km)
                inside = [i for i in inside if not new or (i - user * 7) % ITEMS >= EVENTS]
                mine, whole = found[found["user_id"] == f"u{user}"], each[new]
                expected = whole[(whole["user_id"] == f"u{user}") & whole["item_index"].isin(inside)]
                assert mine["item_index"].tolist() == expected["item_index"].tolist()
                np.testing.assert_allclose(mine["probability"], expected["probability"], rtol=1e-4, atol=1e-7)
                assert mine["rank"].tolist() == list(range(1, len(inside) + 1))
    with pytest.raises(InputError, match="no item is in the city 'Nowhere'"):
        recommender.lists(users, 5, False, Limit(city="Nowhere"))
    flat = replace(recommender, generation=replace(recommender.generation, xyz=None))
    with pytest.raises(ConfigError, match="no coordinates"):
        flat.lists(users, 5, False, Limit(km=3.0))


def test_lists_are_those_that_were_judged(cell: Cell) -> None:
    """Asked at the test events instead of behind them, the blend finds what its figures say."""
    recommender, measured = Recommender.load(cell, CONFIG, 0), cell.out.read_json("metrics.json")
    generation = Generation.read(CONFIG, cell.inputs["catalogue"], 0)
    queries = generation.queries(TEST, "next")
    places = queries + np.arange(len(queries))  # an open event stands behind each user before
    listed = generated(recommender.model, recommender.batches, places, recommender.trie, CONFIG.beams, False)
    lists, _ = recommender.blend.lists(places, among_found(listed), 20)
    assert generation.figures(queries, lists) == measured["blend"]["test"]["next"]
    mixture = generation.baselines()["mixture"]["test"]["next"]
    worth = measured["worth"]["test"]["next"]
    assert worth["hit@10"] == pytest.approx(measured["blend"]["test"]["next"]["hit@10"] - mixture["hit@10"])


def test_a_cell_that_knows_no_rules_is_refused(cell: Cell) -> None:
    measured = cell.out.read_json("metrics.json")
    cell.out.write_json("metrics.json", {name: measured[name] for name in ("valid", "test")})
    try:
        with pytest.raises(StorageError, match="earlier version, without the rules; run `lgsid generate` again"):
            Recommender.load(cell, CONFIG, 0)
    finally:
        cell.out.write_json("metrics.json", measured)


def test_somebody_without_a_history_is_told_by_visits_per_kilometre(cell: Cell) -> None:
    recommender = Recommender.load(cell, CONFIG, 0)
    lat, lon = 40 + np.arange(ITEMS) / 50, np.arange(ITEMS) / 40
    visits = recommender.blend.rules.popular + 0.1
    km = haversine_km(40.3, 0.4, lat, lon)
    for limit, vote in (
        (Limit(), visits),
        (Limit(point=(40.3, 0.4)), visits / (1 + km)),
        (Limit(km=9.0, point=(40.3, 0.4)), visits / (1 + km) * (km <= 9)),
        (Limit(km=0.01, point=(0.0, 0.0)), np.zeros(ITEMS)),
    ):
        found = recommender.stranger(12, limit).to_pandas()
        expected = [item for item in np.argsort(-vote, kind="stable")[:12].tolist() if vote[item] > 0]
        assert found["item_index"].tolist() == expected
        np.testing.assert_allclose(found["probability"], vote[expected] / max(vote.sum(), 1e-9), rtol=1e-5)
        assert found["rank"].tolist() == list(range(1, len(expected) + 1))
        assert found["user_id"].isna().all()
        if limit.point is not None:
            np.testing.assert_allclose(found["km"], km[expected], atol=1e-6)
    with pytest.raises(ConfigError, match="say where they are with --near"):
        recommender.stranger(5, Limit(km=3.0))


def test_a_user_without_a_history_has_no_list(cell: Cell) -> None:
    recommender = Recommender.load(cell, CONFIG, 0)
    assert recommender.positions(np.array([USERS, 0])).tolist() == [-1, EVENTS]
    assert recommender.lists(np.array([USERS]), 10, new=False).num_rows == 0
    assert len(recommender.history(USERS, 5)) == 0


def test_a_log_whose_users_come_in_another_order_is_numbered_by_first_row(cell: Cell, tmp_path: Path) -> None:
    other = StageDir(f"{tmp_path}/catalogue").make()
    table = Interactions(cell.inputs["catalogue"]).read()
    Interactions(other).write(table.take(pa.array(np.argsort(-np.arange(len(table)), kind="stable"))), "part-0.parquet")
    other.write_table("items/part-0.parquet", cell.inputs["catalogue"].read_table("items"))
    turned = Recommender.load(replace(cell, inputs={**cell.inputs, "catalogue": other}), CONFIG, 0)
    plain = Recommender.load(cell, CONFIG, 0)
    assert turned.user_ids[0].as_py() == f"u{USERS - 1}"
    one, two = (each.lists(np.array([row]), 10, False) for each, row in ((turned, 0), (plain, USERS - 1)))
    assert one.equals(two)


def test_weights_on_other_sids_or_of_another_model_are_refused(cell: Cell, tmp_path: Path) -> None:
    narrow = cell.settings.model.model_copy(update={"dimension": 8})
    with pytest.raises(StorageError, match="weights of the model"):
        Recommender.load(replace(cell, settings=GenerateCell(model=narrow, seed=0)), CONFIG, 0)
    if "tokenise" in cell.inputs:
        index = np.arange(ITEMS)
        turned = StageDir(f"{tmp_path}/tokenise").make()
        write_sids(turned, np.column_stack([index[::-1] // 10, index[::-1] // 3 % 4]), index[::-1] % 3)
        with pytest.raises(StorageError, match="trained on other SIDs"):
            Recommender.load(replace(cell, inputs={**cell.inputs, "tokenise": turned}), CONFIG, 0)


def test_weights_come_back_as_they_were_and_torn_ones_are_refused(tmp_path: Path) -> None:
    folder, of = StageDir(str(tmp_path)), label(MODELS["tiger"], np.arange(4)[:, None])
    weights = {"one": torch.randn(3, 4), "two": torch.zeros(())}
    write_weights(folder, weights, of)
    torch.testing.assert_close(read_weights(folder, of), weights, rtol=0, atol=0)
    raw = folder.read(WEIGHTS)
    for _ in range(20):
        write_weights(folder, weights, of)
        assert folder.read(WEIGHTS) == raw
    with pytest.raises(StorageError, match="other SIDs"):
        read_weights(folder, label(MODELS["tiger"], None))
    for torn in (raw[:-3], raw[:20], b""):
        with folder.write(WEIGHTS) as file:
            file.write(torn)
        with pytest.raises(StorageError, match="corrupt"):
            read_weights(folder, of)


def test_lists_of_many_users_are_those_of_each_and_what_stands_is_kept(
    ray_local: None, cell: Cell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lgsid_ray.recommend.generators.lists.USERS", 25)
    users, out = np.arange(USERS)[::-1].copy(), StageDir(f"{tmp_path}/lists")
    request = Request(cell, CONFIG, 0, 5, False)
    assert sum(write_lists(request, users, out, actors=2)) == USERS
    expected = Recommender.load(cell, CONFIG, 0).lists(users, 5, False)
    found = Recommendations(out).read()
    assert found.drop_columns(["probability"]).equals(expected.drop_columns(["probability"]))
    np.testing.assert_allclose(found["probability"].to_numpy(), expected["probability"].to_numpy(), rtol=1e-4)
    parts = sorted(out.members(Recommendations.name))
    assert parts == [f"part-{start:09d}.parquet" for start in (0, 25, 50)]
    out.remove(f"{Recommendations.name}/{parts[1]}")
    assert list(write_lists(request, users, out, actors=1)) == [35, 25]
    assert Recommendations(out).read().drop_columns(["probability"]).equals(found.drop_columns(["probability"]))
    for other in (replace(request, count=6), replace(request, new=True)):
        with pytest.raises(ConfigError, match="another request"):
            list(write_lists(other, users, out, actors=1))
    with pytest.raises(ConfigError, match="another request"):
        list(write_lists(request, users[1:], out, actors=1))
