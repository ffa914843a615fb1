"""`lgsid score` on a finished run that the test writes itself, with an untrained ranker."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import Result
from typer.testing import CliRunner

from lgsid_ray.artifacts import Quarantine, Scores
from lgsid_ray.cli.app import app
from lgsid_ray.config.recommend import DinConfig, RankCell, RankConfig, SimConfig
from lgsid_ray.execution.storage import StageDir
from lgsid_ray.recommend.rankers.experiment import Ranking
from tests.cli.finished import finish, run_directory

CONFIG = RankConfig(history=3, long=5)


def lgsid(*words: str) -> Result:
    return CliRunner(env={"COLUMNS": "200", "TERM": "dumb"}).invoke(app, ["score", *words])


@pytest.fixture
def home(tmp_path: Path) -> StageDir:
    found, given = run_directory(tmp_path)
    finish(found, "rank/din/hgit/0", RankCell(model=DinConfig(), seed=0), given, CONFIG, Ranking)
    without = {"catalogue": given["catalogue"]}
    finish(found, "rank/sim/origin/0", RankCell(model=SimConfig(), seed=0), without, CONFIG, Ranking)
    return found


def write(file: Path, rows: int | None = None, **columns: list[Any]) -> str:
    pq.write_table(pa.table(columns), file, row_group_size=rows)
    return str(file)


def test_pairs_of_several_files_are_scored_in_order_and_what_cannot_be_is_kept_apart(
    ray_local: None, home: StageDir, tmp_path: Path
) -> None:
    folder = tmp_path / "pairs"
    folder.mkdir()
    write(folder / "a.parquet", 2, user_id=["u4", "u2", "u4"], item_id=["i1", "nowhere", "i2"], timestamp=[9, 9, None])
    write(folder / "b.parquet", user_id=["stranger", "u1"], item_id=["i3", None], timestamp=[5, 5])
    to = StageDir(str(tmp_path / "to"))
    result = lgsid(str(folder), "--to", to.root, "--out", home.root, "--actors", "1")
    assert result.exit_code == 0, result.output
    rows = Scores(to).read().to_pylist()
    assert [(row["user_id"], row["item_id"], row["timestamp"], row["known"]) for row in rows] == [
        ("u4", "i1", 9, True),
        ("stranger", "i3", 5, False),
    ]
    assert all(0 < row["probability"] < 1 for row in rows)
    left = Quarantine(to).read().to_pylist()
    assert [(Path(row["file"]).name, row["row"], row["column"], row["reason"]) for row in left] == [
        ("a.parquet", 2, "item_id", "not in the catalogue"),
        ("a.parquet", 3, "timestamp", "missing"),
        ("b.parquet", 2, "item_id", "not in the catalogue"),
    ]
    said = " ".join(result.output.split())
    assert "2 of 5 pairs by rank/din/hgit/0" in said
    assert "1 of them are of users that the log does not know" in said
    before = Path(Scores(to).parts()[0]).stat().st_mtime_ns
    assert lgsid(str(folder), "--to", to.root, "--out", home.root).exit_code == 0
    assert Path(Scores(to).parts()[0]).stat().st_mtime_ns == before
    result = lgsid(str(folder), "--to", to.root, "--out", home.root, "--model", "sim", "--tokenizer", "origin")
    assert (result.exit_code, "another request" in result.output) == (2, True)


def test_bad_files_and_unknown_rankers_are_named(home: StageDir, tmp_path: Path) -> None:
    good = write(tmp_path / "good.parquet", user_id=["u1"], item_id=["i1"])
    text = tmp_path / "text.parquet"
    text.write_text("user_id,item_id\n")
    for words, code, said in (
        ([str(tmp_path / "none.parquet")], 3, "there is no such file"),
        ([str(text)], 3, "text.parquet"),
        ([write(tmp_path / "x.parquet", user_id=["u1"], item=["i1"])], 3, "has no column item_id"),
        ([write(tmp_path / "y.parquet", user_id=["u"], item_id=["i"], timestamp=[1.5])], 3, "Unix seconds"),
        ([good, "--model", "sim"], 2, "no trained sim on hgit with seed 0"),
        ([good, "--tokenizer", "origin"], 2, "rank/din/hgit/0, rank/sim/origin/0"),
    ):
        result = lgsid(*words, "--to", str(tmp_path / "to"), "--out", home.root)
        assert (result.exit_code, said in " ".join(result.output.split())) == (code, True), result.output
    home.remove("rank")
    result = lgsid(good, "--to", str(tmp_path / "to"), "--out", home.root)
    assert (result.exit_code, "no trained ranker" in result.output) == (5, True)
