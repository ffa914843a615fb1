"""The command line where it needs no Ray: help, configuration, exit codes, no tracebacks."""

from pathlib import Path

import pytest
from click.testing import Result
from typer.testing import CliRunner

from lgsid_ray.cli import STAGES, app


def _lgsid(*words: str) -> Result:
    return CliRunner(env={"COLUMNS": "200", "TERM": "dumb"}).invoke(app, list(words))


def test_help_names_every_stage_and_the_exit_codes() -> None:
    result = _lgsid("--help")
    assert result.exit_code == 0
    for stage in STAGES:
        assert stage.replace("_", "-") in result.output
    assert "5 storage" in " ".join(result.output.split())


def test_config_show_prints_overrides_and_can_be_read_back(tmp_path: Path) -> None:
    shown = _lgsid("config", "show", "--set", "seed=7", "--set", "catalogue.source.items=99")
    assert shown.exit_code == 0
    path = tmp_path / "mine.yaml"
    path.write_text(shown.stdout)
    again = _lgsid("config", "show", "--config", str(path))
    assert again.stdout == shown.stdout
    assert "seed: 7" in shown.stdout
    assert "items: 99" in shown.stdout


def test_schema_lists_tables_with_columns_and_types() -> None:
    result = _lgsid("schema")
    assert result.exit_code == 0
    for word in ("items", "item_index", "int64", "quarantine", "reason", "sids", "tokens"):
        assert word in result.output


@pytest.mark.parametrize("command", [["config", "show"], ["run"], ["catalogue"], ["tokenise"]])
@pytest.mark.parametrize(
    ("override", "told"),
    [("catalogue.sauce=1", "sauce"), ("nonsense=1", "nonsense"), ("seed=many", "seed"), ("seed", "seed")],
)
def test_a_refused_configuration_exits_2_without_traceback(
    tmp_path: Path, command: list[str], override: str, told: str
) -> None:
    where = [] if command[0] == "config" else ["--out", str(tmp_path / "run")]
    result = _lgsid(*command, *where, "--set", override)
    assert result.exit_code == 2
    assert told in result.output
    assert "Traceback" not in result.output
    assert not (tmp_path / "run").exists()


def test_a_missing_configuration_file_is_named() -> None:
    result = _lgsid("config", "show", "--config", "nowhere.yaml")
    assert result.exit_code == 2
    assert "nowhere.yaml" in result.output


def test_seeds_must_be_numbers(tmp_path: Path) -> None:
    result = _lgsid("evaluate", "--out", str(tmp_path / "run"), "--seeds", "0,x")
    assert result.exit_code == 2
    assert "0,1,2" in result.output


def test_status_of_what_is_no_run_directory_exits_5(tmp_path: Path) -> None:
    result = _lgsid("status", "--out", str(tmp_path))
    assert result.exit_code == 5
    assert "config.json" in result.output
