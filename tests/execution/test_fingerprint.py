"""What changes a fingerprint: code that computes, not how it is written down; and how changes are told."""

from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest

from lgsid_ray.execution import fingerprint as module
from lgsid_ray.execution.fingerprint import changes, code_of, fingerprint

STAGE = '''"""The stage."""
from lgsid_ray.room.maths import double
from lgsid_ray.errors import InputError


def work(config):
    """Docstring."""
    if config is None:
        raise InputError("nothing to do")
    return double(config)  # a comment
'''
MATHS = "def double(x: int) -> int:\n    return x * 2\n"


ERRORS = "class InputError(Exception): ...\n"


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    (tmp_path / "room").mkdir()
    for name, text in {"room/stage.py": STAGE, "room/maths.py": MATHS, "errors.py": ERRORS}.items():
        (tmp_path / name).write_text(text)
    (tmp_path / "room" / "__init__.py").write_text("from lgsid_ray.room.maths import double\n")
    monkeypatch.setattr(module, "ROOT", tmp_path)
    module._module.cache_clear()
    yield tmp_path
    module._module.cache_clear()


def digest(package: Path, file: str, text: str) -> dict[str, str]:
    (package / file).write_text(text)
    module._module.cache_clear()
    return code_of("room.stage:work")


def test_the_modules_behind_a_stage_count_and_how_it_is_run_does_not(package: Path) -> None:
    assert list(code_of("room.stage:work")) == ["room.maths", "room.stage"]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("# a comment", "# another"),
        ('"""Docstring."""', '"""Other words."""'),
        ('"nothing to do"', '"there is nothing to do: bring something"'),
        ("    return double(config)", "\n    return double(\n        config\n    )"),
    ],
)
def test_comments_formatting_and_wording_change_nothing(package: Path, old: str, new: str) -> None:
    before = code_of("room.stage:work")
    assert old in STAGE
    assert digest(package, "room/stage.py", STAGE.replace(old, new)) == before


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("room/stage.py", STAGE.replace("double(config)", "double(config + 1)")),
        ("room/maths.py", MATHS.replace("2", "3")),
        ("room/stage.py", STAGE.replace("is None", "is not None")),
    ],
)
def test_code_that_computes_something_else_changes_it(package: Path, file: str, text: str) -> None:
    before = code_of("room.stage:work")
    after = digest(package, file, text)
    assert {name for name in after if after[name] != before[name]} == {f"room.{Path(file).stem}"}


def test_annotations_of_functions_change_nothing(package: Path) -> None:
    before = code_of("room.stage:work")
    assert digest(package, "room/maths.py", MATHS.replace("x: int", "x").replace(" -> int", "")) == before


def test_a_packages_face_is_looked_through(package: Path) -> None:
    (package / "room" / "other.py").write_text("value = 1\n")
    (package / "room" / "__init__.py").write_text(
        "from lgsid_ray.room.maths import double\nfrom lgsid_ray.room.other import value\n"
    )
    found = digest(package, "room/stage.py", STAGE.replace("lgsid_ray.room.maths", "lgsid_ray.room"))
    assert list(found) == ["room.maths", "room.stage"], "what the face also hands on is not used"


def test_of_a_registry_the_entry_counts_that_is_meant(package: Path) -> None:
    (package / "room" / "registry.py").write_text(
        "from lgsid_ray.room import one, two\nKINDS = {'one': one.fit, 'two': two.fit}\n"
    )
    for kind in ("one", "two"):
        (package / "room" / f"{kind}.py").write_text("from lgsid_ray.room.maths import double\nfit = double\n")
    digest(package, "room/stage.py", f"from lgsid_ray.room.registry import KINDS\n{STAGE}")
    assert list(code_of("room.stage:work", "one")) == ["room.maths", "room.one", "room.stage"]
    assert list(code_of("room.stage:work")) == ["room.maths", "room.stage"], "a table over all kinds reads results"


def test_a_file_that_a_module_names_counts(package: Path) -> None:
    (package / "room" / "page.css").write_text("a {}")
    before = digest(package, "room/maths.py", MATHS + "css = 'page.css'\n")
    after = digest(package, "room/page.css", "b {}")
    assert {name for name in after if after[name] != before[name]} == {"room.maths"}


def test_a_kind_lies_in_the_module_of_its_name() -> None:
    for room, table in (
        ("recommend.rankers", "RANKERS"),
        ("recommend.generators", "GENERATORS"),
        ("tokenizer", "FITS"),
    ):
        for kind, entry in getattr(import_module(f"lgsid_ray.{room}.{module.REGISTRY}"), table).items():
            assert entry.__module__ == f"lgsid_ray.{room}.{kind}"


def test_every_stage_of_the_pipeline_has_code_behind_it() -> None:
    from lgsid_ray.pipeline import ENTRIES

    for entry in ENTRIES:
        found = code_of(entry.stage.function)
        assert entry.stage.function.partition(":")[0] in found
        assert not any(name.split(".")[0] in ("cli", "config", "studies") for name in found)
    assert "execution.train" in code_of("align.stage:align"), "how weights are updated decides a result"
    assert "align.losses" in code_of("align.stage:align")


def test_changes_are_told_in_a_few_words() -> None:
    base = {"stage": "s", "config": {"align": {"lambda": 1.0, "steps": 5}}, "cell": None, "seed": 0}
    base |= {"inputs": {"embed": "a"}, "sources": ["f 1"], "code": {"align.losses": "x"}}
    other = {**base, "config": {"align": {"lambda": 1.8, "beta": 2}}, "code": {"align.losses": "y"}}
    assert changes(base, base) == ""
    assert changes(base, other) == (
        "align.lambda 1.0 → 1.8, align.steps 5 → unset, align.beta unset → 2, code of align.losses"
    )
    everything = {**other, "seed": 1, "inputs": {"embed": "b"}, "sources": []}
    assert changes(base, everything).endswith("seed 0 → 1 and 3 more")
    assert fingerprint(base) != fingerprint(other) != fingerprint(everything)
    assert fingerprint(base) == fingerprint(dict(reversed(base.items())))
