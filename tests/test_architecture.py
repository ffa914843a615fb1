"""The house as docs/architecture.md draws it: its folders, who imports whom, who imports Ray."""

import ast
import re
import tomllib
from collections.abc import Iterable, Mapping
from fnmatch import fnmatch
from importlib import import_module
from pathlib import Path

import pytest

from lgsid_ray.config import load

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "lgsid_ray"
PAGE = (ROOT / "docs" / "architecture.md").read_text()

ROOMS = ("catalog", "sampling", "encoder", "preference", "align", "tokenizer", "recommend", "evaluate")
STOREYS = (
    ("cli",),
    ("studies",),
    ("pipeline",),
    ("report",),
    ROOMS,
    ("artifacts",),
    ("geo",),
    ("execution",),
    ("config",),
    ("arrays", "draws", "errors"),
)
"""From the top down; the last one may import within itself."""
ACROSS = {("align", "encoder")}
"""The one arrow between rooms: the policy is the encoder with adapters."""
SHOWN = {"evaluate"}
"""The rooms whose tables the report takes as they are."""

Graph = Mapping[str, set[str]]


def _modules() -> dict[str, ast.Module]:
    """Every module of the package by its name below `lgsid_ray`; the package itself is left out.

    `lgsid_ray/__init__.py` is the door: it names classes of rooms for `from lgsid_ray import …`, and holds the version.
    """
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        if name:
            found[name] = ast.parse(path.read_text())
    return found


def _imported(tree: ast.Module) -> Iterable[tuple[str, str | None]]:
    """(module, name or None) of every import statement, those inside functions too."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, None) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            yield from ((node.module or "", alias.name) for alias in node.names)


def _graph(modules: Mapping[str, ast.Module]) -> Graph:
    """Module → modules of the package that it imports; `from folder import module` means the module."""
    graph: dict[str, set[str]] = {}
    for importer, tree in modules.items():
        graph[importer] = set()
        for module, name in _imported(tree):
            if module.partition(".")[0] == PACKAGE.name:
                whole = f"{module}.{name}".partition(".")[2]
                graph[importer].add(whole if whole in modules else module.partition(".")[2])
        graph[importer] -= {"", importer}
    return graph


MODULES = _modules()
GRAPH = _graph(MODULES)


def _top(module: str) -> str:
    return module.partition(".")[0]


def _storey(module: str) -> int:
    return next(number for number, names in enumerate(STOREYS) if _top(module) in names)


def _arrows() -> list[tuple[str, str]]:
    """(importer, imported) between different folders, or modules that stand alone."""
    return [(a, b) for a, targets in GRAPH.items() for b in sorted(targets) if _top(a) != _top(b)]


def _circle(graph: Graph) -> list[str]:
    """The modules along some circle of imports; empty where there is none."""
    done: set[str] = set()

    def visit(module: str, path: list[str]) -> list[str]:
        if module in path:
            return [*path[path.index(module) :], module]
        if module in done:
            return []
        for target in sorted(graph.get(module, ())):
            if found := visit(target, [*path, module]):
                return found
        done.add(module)
        return []

    return next((found for module in graph if (found := visit(module, []))), [])


def test_every_folder_stands_in_one_storey() -> None:
    assert sorted({_top(module) for module in MODULES}) == sorted(name for names in STOREYS for name in names)


def test_imports_run_downward() -> None:
    last = len(STOREYS) - 1
    wrong = [
        f"{a} -> {b}"
        for a, b in _arrows()
        if _storey(a) > _storey(b) or (_storey(a) == _storey(b) < last and _top(a) not in ROOMS)
    ]
    assert not wrong


def test_rooms_do_not_import_each_other() -> None:
    between = {(_top(a), _top(b)): f"{a} -> {b}" for a, b in _arrows() if _top(a) in ROOMS and _top(b) in ROOMS}
    assert not [text for pair, text in between.items() if pair not in ACROSS]


def test_the_report_takes_its_tables_from_evaluate_alone() -> None:
    rooms = {_top(b) for a, b in _arrows() if _top(a) == "report" and _top(b) in ROOMS}
    assert rooms <= SHOWN


def test_no_module_imports_itself_by_a_detour() -> None:
    assert not _circle(GRAPH)


def test_no_folder_imports_itself_by_a_detour() -> None:
    folders: dict[str, set[str]] = {}
    for importer, targets in GRAPH.items():
        home = _folder(importer)
        folders.setdefault(home, set()).update(folder for target in targets if (folder := _folder(target)) != home)
    assert not _circle(folders)


def test_a_circle_is_found() -> None:
    assert _circle({"a": {"b"}, "b": {"c", "d"}, "c": set(), "d": {"b"}}) == ["b", "d", "b"]
    assert _circle({"a": {"b", "c"}, "b": {"c"}, "c": set()}) == []


def test_ray_is_imported_by_the_allow_list_alone() -> None:
    with (ROOT / "pyproject.toml").open("rb") as file:
        lint = tomllib.load(file)["tool"]["ruff"]["lint"]
    assert "TID" in lint["select"]
    assert list(lint["flake8-tidy-imports"]["banned-api"]) == ["ray"]
    allowed = [pattern for pattern, rules in lint["per-file-ignores"].items() if "TID251" in rules]
    users = [
        str(path.relative_to(ROOT))
        for path in sorted(PACKAGE.rglob("*.py"))
        if any(module.partition(".")[0] == "ray" for module, _ in _imported(ast.parse(path.read_text())))
    ]
    assert not [user for user in users if not any(fnmatch(user, pattern) for pattern in allowed)]
    within = [pattern for pattern in allowed if pattern.startswith(PACKAGE.name)]
    assert within
    assert not [pattern for pattern in within if not any(fnmatch(user, pattern) for user in users)], "nobody uses it"


def test_the_drawing_shows_the_storeys_and_nothing_else() -> None:
    drawn = []
    for line in _block("lgsid_ray/"):
        names = re.match(r" +((?:[a-z_]+(?:/|\.py) *)+)", line)
        if names:
            drawn.append(tuple(re.findall(r"([a-z_]+)(?:/|\.py)", names[1])))
    assert drawn == list(STOREYS)


def test_the_drawing_shows_the_folders_beside_the_package() -> None:
    beside = [match[1] for line in _block("lgsid_ray/") if (match := re.match(r"([a-z_]+)/", line))]
    assert "tests" in beside
    assert [name for name in beside if not (ROOT / name).is_dir()] == []


def test_the_tests_mirror_the_package() -> None:
    folders = {path.name for path in (ROOT / "tests").iterdir() if path.is_dir() and any(path.glob("test_*.py"))}
    assert folders <= {path.name for path in PACKAGE.iterdir() if path.is_dir()}


def test_the_page_tells_every_stage_with_its_sections_and_inputs() -> None:
    pipeline = import_module("lgsid_ray.pipeline")
    if not hasattr(pipeline, "STAGES"):
        pytest.skip("the pipeline has no table of stages yet")
    rows = [[_quoted(cell) for cell in line.strip("|").split("|")] for line in PAGE.splitlines() if line[:3] == "| `"]
    told = [(row[0][0].partition("/")[0], set(row[1]), set(row[2])) for row in rows if len(row) == 4]
    assert list(dict.fromkeys(family for family, _, _ in told)) == list(pipeline.STAGES)
    for stage in pipeline.plan(load(None)):
        if stage.name != "report":  # which reads everything
            read = {name.partition("/")[0] for name in stage.inputs.values()} - {stage.family}
            rows_of = [(sections, inputs) for family, sections, inputs in told if family == stage.family]
            assert any(set(stage.sections) == sections and read <= inputs for sections, inputs in rows_of), stage.name


def _folder(module: str) -> str:
    return module if (PACKAGE / module.replace(".", "/")).is_dir() else module.rpartition(".")[0] or module


def _quoted(text: str) -> list[str]:
    return re.findall(r"`([^`]+)`", text)


def _block(first: str) -> list[str]:
    """The lines of the page's code block that begins with `first`."""
    blocks = PAGE.split("```")[1::2]
    return next(block for block in blocks if block.strip("\n").startswith(first)).strip("\n").splitlines()
