"""`lgsid recommend` on a finished run that the test writes itself, with an untrained generator."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import Result
from typer.testing import CliRunner

from lgsid_ray.artifacts import Quarantine, Recommendations
from lgsid_ray.cli.app import app
from lgsid_ray.config.recommend import GenerateCell, GenerateConfig, SasrecConfig, TigerConfig
from lgsid_ray.execution.storage import StageDir
from lgsid_ray.recommend.generators.experiment import Generation
from tests.cli.finished import finish, run_directory
from tests.recommend.test_recommend_stages import ITEMS, USERS

CONFIG = GenerateConfig(history=3)


def lgsid(*words: str) -> Result:
    return CliRunner(env={"COLUMNS": "200", "TERM": "dumb"}).invoke(app, ["recommend", *words])


@pytest.fixture
def home(tmp_path: Path) -> StageDir:
    found, given = run_directory(tmp_path)
    tiger, sasrec = TigerConfig(dimension=16, heads=2), SasrecConfig(dimension=16)
    finish(found, "generate/tiger/hgit/0", GenerateCell(model=tiger, seed=0), given, CONFIG, Generation)
    without = {"catalogue": given["catalogue"]}
    finish(found, "generate/sasrec/origin/0", GenerateCell(model=sasrec, seed=0), without, CONFIG, Generation)
    return found


def test_a_list_is_printed_for_each_user(home: StageDir) -> None:
    result = lgsid("--user", "u7", "--user", "u3", "--out", home.root, "--model", "tiger", "--count", "4")
    assert result.exit_code == 0, result.output
    assert result.output.index("u7: latest visits") < result.output.index("u3: latest visits")
    assert result.output.count("probability") == 2
    rows = [line.split() for line in result.output.splitlines() if line.strip()[:1].isdigit()]
    assert [row[0] for row in rows] == list("1234") * 2
    assert all(row[-1].startswith("i") and float(row[2]) >= 0 for row in rows)  # the SID, as the fixture has it


def test_a_generator_without_sids_prints_none(home: StageDir) -> None:
    result = lgsid("--user", "u7", "--out", home.root, "--model", "sasrec", "--new", "--count", "20")
    assert result.exit_code == 0, result.output
    items = [word for word in result.output.split() if word.startswith("i") and word[1:].isdigit()]
    visited = {f"i{(7 * 7 + step) % ITEMS}" for step in range(20)}
    assert len(items) == 20
    assert not visited & set(items)


def test_somebody_without_a_history_is_told_what_is_near_and_visited(home: StageDir) -> None:
    lat, lon = 40 + 9 / 50, 9 / 40  # where i9 lies; every item has as many visits
    result = lgsid("--near", f"{lat},{lon}", "--within", "9", "--out", home.root, "--model", "tiger")
    assert result.exit_code == 0, result.output
    rows = [line.split() for line in result.output.splitlines() if line.strip()[:1].isdigit()]
    assert rows[0][3] == "i9"
    km = [float(row[2]) for row in rows]
    assert km[0] == 0
    assert km[-1] <= 9
    assert len(rows) == 5  # two on either side
    assert sum(float(row[1]) for row in rows) == pytest.approx(1, abs=0.01)


def test_unknown_users_and_generators_are_named(home: StageDir, tmp_path: Path) -> None:
    for words, code, said in (
        (["--user", "u999", "--model", "tiger"], 3, "no history of 1 of the users: 'u999'"),
        (["--user", "u1"], 2, "generate/sasrec/origin/0, generate/tiger/hgit/0"),  # the run's own is pointer
        (["--user", "u1", "--model", "tiger", "--seed", "3"], 2, "no trained tiger on hgit or origin with seed 3"),
        (["--user", "u1", "--model", "tiger", "--near", "40,0"], 2, "--within how many kilometres"),
        (["--user", "u1", "--model", "tiger", "--near", "91,0", "--within", "3"], 2, "latitudes are within 90"),
        (["--user", "u1", "--model", "tiger", "--near", "here", "--within", "3"], 2, "LATITUDE,LONGITUDE"),
        (["--user", "u1", "--to", str(tmp_path / "to")], 2, "give --user, for the terminal, or --to"),
        ([], 2, "or neither but --near or --city, for somebody without a history"),
        (["--model", "tiger", "--city", "Nowhere"], 3, "no item is in the city 'Nowhere'"),
        (["--model", "tiger", "--city", "Nowhere", "--within", "2"], 3, "no item is in the city 'Nowhere'"),
    ):
        result = lgsid(*words, "--out", home.root)
        assert (result.exit_code, said in " ".join(result.output.split())) == (code, True), result.output
    home.remove("generate")
    result = lgsid("--user", "u1", "--out", home.root)
    assert (result.exit_code, "no trained generator" in result.output) == (5, True)


def test_lists_of_the_users_of_a_file_go_to_parquet_and_unknown_ones_are_kept_apart(
    ray_local: None, home: StageDir, tmp_path: Path
) -> None:
    asked, to = tmp_path / "users.parquet", StageDir(str(tmp_path / "to"))
    pq.write_table(pa.table({"user_id": ["u4", "stranger", "u2", "u4", None]}), asked)
    result = lgsid("--users", str(asked), "--to", to.root, "--out", home.root, "--model", "tiger", "--actors", "1")
    assert result.exit_code == 0, result.output
    table = Recommendations(to).read()
    assert table.column("user_id").to_pylist() == ["u4"] * 10 + ["u2"] * 10
    left = Quarantine(to).read().to_pylist()
    assert [(row["row"], row["reason"], row["raw"]) for row in left] == [
        (2, "not in the log", "stranger"),
        (5, "not in the log", "None"),
    ]
    result = lgsid("--to", to.root, "--out", home.root, "--model", "tiger")
    assert (result.exit_code, "another request" in result.output) == (2, True)
    pq.write_table(pa.table({"user": ["u4"]}), asked)
    result = lgsid("--users", str(asked), "--to", f"{tmp_path}/other", "--out", home.root, "--model", "tiger")
    assert (result.exit_code, "user_id" in result.output) == (3, True)
    result = lgsid("--to", f"{tmp_path}/all", "--out", home.root, "--model", "sasrec", "--count", "3", "--actors", "1")
    assert result.exit_code == 0, result.output
    assert Recommendations(StageDir(f"{tmp_path}/all")).count() == 3 * USERS
