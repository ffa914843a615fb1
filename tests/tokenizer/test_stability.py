"""How far SIDs hang on chance: codes renamed are no change, and what each of two other fits may move."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from lgsid_ray.artifacts import Sids
from lgsid_ray.artifacts.items import trains
from lgsid_ray.artifacts.spans import spans
from lgsid_ray.execution.stage import Sections
from lgsid_ray.execution.storage import StageDir
from lgsid_ray.pipeline import plan
from lgsid_ray.tokenizer.stability import Given, changed, replacing, stability
from tests.tokenizer.conftest import config, items, run, vectors, world


def given(tokens: np.ndarray) -> Given:
    """In parts of 7 items, and with room for codes that nobody has."""
    sizes = (tokens.max(axis=0) + 2).tolist()
    return Given(lambda: [tokens[begin : begin + 7] for begin in range(0, len(tokens), 7)], sizes)


def shares(before: np.ndarray, after: np.ndarray) -> list[float]:
    rows = changed(given(before), given(after))
    assert [row["prefix"] for row in rows] == list(range(1, before.shape[1] + 1))
    return [row["changed"] for row in rows]


def test_codes_under_other_names_are_no_change() -> None:
    rng = np.random.default_rng(0)
    before = rng.integers(0, 9, (500, 3))
    after = np.stack([rng.permutation(9)[column] for column in before.T], axis=1)
    assert shares(before, after) == [0.0, 0.0, 0.0]


def test_an_item_that_moves_has_changed_from_that_level_on() -> None:
    before = np.repeat(np.arange(4)[:, None], 2, axis=1).repeat(25, axis=0)
    after = before.copy()
    after[:5, 1] = 3
    after[99, 0] = 0
    assert shares(before, after) == pytest.approx([0.01, 0.06])


def test_codes_that_nobody_had_before_are_a_change() -> None:
    before = np.zeros((4, 1), dtype=int)
    assert shares(before, np.array([[0], [0], [0], [5]])) == [0.25]


def held_out(share: float, count: int = 20_000) -> pa.Table:
    table = items(count)
    split = np.where(np.random.default_rng(2).random(count) < share, "held_random", "train")
    return table.set_column(table.schema.get_field_index("split"), "split", pa.array(split))


@pytest.mark.parametrize(("share", "joined"), [(0.4, 120), (0.0, 0)])
def test_a_hundredth_of_the_training_items_is_replaced(share: float, joined: int, tmp_path: Path) -> None:
    stages = world(tmp_path, held_out(share), vectors(20_000))
    work = spans(stages["catalogue"], stages["vectors"], 6000)
    before, after = (
        np.concatenate([trains(span.read_items(["item_id", "split"])) for span in one])
        for one in (work, replacing(work, 0))
    )
    assert (before & ~after).sum() == pytest.approx(0.01 * before.sum(), rel=0.3)
    assert (~before & after).sum() == pytest.approx(joined, rel=0.3)
    assert [len(span) for span in replacing(work, 0)] == [6000, 6000, 6000, 2000]


@pytest.mark.usefixtures("in_process")
def test_random_ids_change_with_the_seed_alone(tmp_path: Path) -> None:
    found = judged(tmp_path, "tokenizer={kind: random, sizes: [16, 12, 8]}")
    assert found["another_seed"][-1]["changed"] > 0.9
    assert [row["changed"] for row in found["replaced"]] == [0.0, 0.0, 0.0]


@pytest.mark.usefixtures("in_process")
def test_a_fit_to_nearly_the_same_items_moves_fewer_than_another_seed(tmp_path: Path) -> None:
    found = judged(tmp_path, "tokenizer={kind: res_kmeans, sizes: [16, 12, 8]}")
    for rows in found.values():
        moved = [row["changed"] for row in rows]
        assert moved == sorted(moved)
    assert 0 < found["replaced"][0]["changed"] < found["another_seed"][0]["changed"]


def judged(folder: Path, *overrides: str) -> dict[str, list[dict[str, float]]]:
    stages = world(folder / "world", held_out(0.3, 3000), vectors(3000))
    out, _ = run(stages, folder, *overrides)
    judge = StageDir(f"{folder}/stability").make()
    settings = config(*overrides)
    stage = next(stage for stage in plan(settings) if stage.name == "stability")
    given: Any = Sections(settings, stage)  # which refuses what the stage does not declare
    facts = stability(given, {**stages, "tokenise": out}, judge)
    found = judge.read_json("metrics.json")
    assert facts == {name: rows[-1]["changed"] for name, rows in found.items()}
    assert Sids(out).count() == 3000
    return found
