"""A short run of `benchmarks/fuzz.py`: no row is lost, none is altered, nothing but a message of ours."""

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "fuzz.py"


@pytest.fixture(scope="module")
def fuzz() -> ModuleType:
    spec = importlib.util.spec_from_file_location("fuzz", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("seed", [7, 8])
def test_mutants_are_read_or_refused(fuzz: ModuleType, tmp_path: Path, seed: int) -> None:
    counts, wrong = fuzz.fuzz(1200, 90, seed, tmp_path / "kept")
    assert wrong == []
    assert counts.total() == 1200 // 50 + 90
    outcomes = {outcome for _, _, outcome in counts}
    assert outcomes == {"read", "refused"}


@pytest.mark.parametrize(
    ("harm", "told"),
    [
        (lambda row: {**row, "name": "other"}, "did not arrive as it was"),
        (lambda row: {**row, "item_id": "other"}, "did not arrive as it was"),
    ],
)
def test_a_row_that_is_altered_is_noticed(fuzz: ModuleType, tmp_path: Path, harm: object, told: str) -> None:
    mutant = next(mutant for ending, mutant in fuzz.mutants(300, 0, 0) if ending == "jsonl")
    assert fuzz.violation(mutant, tmp_path) == ("read", "")
    mutant.untouched[5] = harm(mutant.untouched[5])  # type: ignore[operator]
    outcome, found = fuzz.violation(mutant, tmp_path)
    assert (outcome, told in found) == ("violated", True)
