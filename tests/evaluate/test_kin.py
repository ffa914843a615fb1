"""Who shares how many first tokens, against a loop, in parts and in any order."""

from pathlib import Path

import numpy as np
import pyarrow as pa

from lgsid_ray.artifacts import Sids
from lgsid_ray.evaluate.kin import kin_of, shared, subjects
from lgsid_ray.execution.storage import StageDir


def leading(row: list[int], mine: list[int]) -> int:
    same = 0
    while same < len(mine) and row[same] == mine[same]:
        same += 1
    return same


def test_kin_of_several_items_against_a_loop(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    tokens, order = rng.integers(0, 3, (60, 3)), rng.permutation(60)
    sids = Sids(StageDir(str(tmp_path)))
    for part, rows in enumerate(np.array_split(order, 4)):
        columns = {"item_index": rows, "item_id": [f"i{row}" for row in rows], "tokens": tokens[rows].tolist()}
        columns |= {"collision": [0] * len(rows), "sid": [f"sid {row}" for row in rows]}
        sids.write(pa.table(columns), f"part-{part:05d}.parquet")
    asked = subjects(sids, ["i7", "i31", "nobody"])
    assert set(asked) == {"i7", "i31"}
    assert asked["i31"].sid == "sid 31"
    for subject, kin in zip(asked.values(), kin_of(sids, list(asked.values())), strict=True):
        mine = tokens[subject.index].tolist()
        assert subject.tokens == tuple(mine)
        expected = {row: leading(tokens[row].tolist(), mine) for row in range(60)}
        assert dict(zip(kin.index.tolist(), kin.depth.tolist(), strict=True)) == {
            row: depth for row, depth in expected.items() if depth
        }
        assert kin.index.tolist() == sorted(kin.index.tolist())


def test_a_token_that_agrees_again_later_does_not_count() -> None:
    assert shared(np.array([[1, 2, 3], [1, 0, 3], [0, 2, 3]]), (1, 2, 3)).tolist() == [3, 1, 0]
