"""The command line where it needs no Ray: help, configuration, exit codes, no tracebacks."""

import re
from pathlib import Path

import pytest
from click.testing import Result
from typer.testing import CliRunner

from lgsid_ray.cli import look, runs
from lgsid_ray.cli.app import app
from lgsid_ray.config import load
from lgsid_ray.config.catalogue import ITEM_OPTIONAL, ITEM_POINT, ITEM_REQUIRED, LOG_OPTIONAL, LOG_REQUIRED, TableSource
from lgsid_ray.pipeline import STAGES, needed


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


def test_every_command_explains_itself_with_an_example() -> None:
    commands = [["config", "show"], *([command.name] for command in app.registered_commands)]
    assert len(commands) > len(STAGES)
    for command in commands:
        text = " ".join(_lgsid(*command, "--help").output.split())  # type: ignore[arg-type]
        assert "Example" in text, command
        assert f"lgsid {' '.join(command)} " in text.partition("Example")[2] + " ", command  # type: ignore[arg-type]


def test_schema_says_what_files_need_and_what_stages_write() -> None:
    result = _lgsid("schema")
    assert result.exit_code == 0
    needed, _, written = result.output.partition("What the stages write")
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in needed.splitlines() if "│" in line]
    columns = [*ITEM_REQUIRED, *ITEM_OPTIONAL, ITEM_POINT, *LOG_REQUIRED, *LOG_OPTIONAL]
    assert [row[0] for row in rows if row[0]] == [*columns, *TableSource.model_fields]
    assert all(row[2] for row in rows), "an option of a source without a word on what it means"
    assert [row[0] for row in rows if row[1] == "yes"] == [*ITEM_REQUIRED, *LOG_REQUIRED]
    assert "float" in written.partition("embedding")[2]
    for word in ("items", "item_index", "int64", "quarantine", "reason", "sids", "tokens"):
        assert word in result.output


@pytest.mark.parametrize("command", [["config", "show"], ["run"], ["catalogue"], ["tokenise"], ["tune"]])
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


def test_status_of_a_config_that_is_newer_or_torn_is_told(tmp_path: Path) -> None:
    file = tmp_path / "config.json"
    for content, code, told in (
        ('{"version": 99}', 2, "version 99 is newer than this lgsid understands"),
        ('{"sead": 0}', 2, "did you mean seed?"),
        ('{"seed": ', 5, "is corrupt"),
    ):
        file.write_text(content)
        result = _lgsid("status", "--out", str(tmp_path))
        assert result.exit_code == code, result.output
        assert told in result.output
        assert str(file) in result.output
        assert "Traceback" not in result.output


def test_status_lists_every_stage_of_the_latest_run(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    result = _lgsid("status", "--out", str(tmp_path))
    assert result.exit_code == 0
    assert result.output.count("not started") == len(needed(load(None), None))


@pytest.mark.parametrize(
    ("out", "told"),
    [("{file}", "File exists"), ("{file}/run", "Not a directory"), ("nothing://b/run", "Protocol not known")],
)
def test_an_unusable_run_directory_exits_5_and_is_named(tmp_path: Path, out: str, told: str) -> None:
    file = tmp_path / "file"
    file.write_text("in the way")
    where = out.format(file=file)
    result = _lgsid("catalogue", "--out", where)
    assert result.exit_code == 5
    assert where in result.output
    assert told in result.output
    assert "Traceback" not in result.output


def test_debug_adds_the_traceback_and_keeps_the_exit_code() -> None:
    result = _lgsid("config", "show", "--config", "nowhere.yaml", "--debug")
    assert result.exit_code == 2
    assert "Traceback" in result.stderr
    assert result.stderr.endswith("error: config nowhere.yaml: no such file\n")


def test_a_bug_exits_1_and_asks_for_a_report(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError("oops")

    monkeypatch.setattr(look, "configure", broken)
    result = _lgsid("config", "show")
    assert result.exit_code == 1
    assert "internal error: ZeroDivisionError: oops" in result.stderr
    assert "Traceback" not in result.output
    written = Path(re.findall(r"traceback in (\S+)", result.stderr)[0])
    assert 'raise ZeroDivisionError("oops")' in written.read_text()
    written.unlink()


def test_an_interrupt_says_how_to_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(runs, "run_until", interrupted)
    result = _lgsid("run")
    assert result.exit_code == 130
    assert result.stderr == "interrupted; give the same command again to continue\n"
