"""What the pages promise about the code: links that lead somewhere, equations that are explained, paths that exist."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").glob("*.md"))]
EQUATIONS = re.compile(r"\bEq (\d+)(?:(?:-| and | to )(\d+))?((?:, \d+)*)")
MINE = {"lgsid_ray/recommend/rankers/mine.py", "lgsid_ray/recommend/generators/mine.py", "lgsid_ray/tokenizer/mine.py"}
"""Files that CONTRIBUTING asks its reader to write."""


def _numbers(text: str) -> set[int]:
    """Every equation that a text names: `Eq 3`, `Eq 10-12`, `Eq 3, 4, 6`."""
    found: set[int] = set()
    for first, last, others in EQUATIONS.findall(text):
        found |= {*range(int(first), int(last or first) + 1), *map(int, re.findall(r"\d+", others))}
    return found


def _docstrings(tree: ast.Module) -> Iterator[str]:
    """The strings that stand as statements: docstrings, those of fields too."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            yield node.value.value


def test_every_equation_that_a_docstring_cites_has_its_heading() -> None:
    texts = [text for path in (ROOT / "lgsid_ray").rglob("*.py") for text in _docstrings(ast.parse(path.read_text()))]
    cited = set().union(*map(_numbers, texts))
    headings = [line for line in (ROOT / "docs" / "method.md").read_text().splitlines() if line.startswith("### ")]
    assert max(cited) == 16
    assert cited <= set().union(*map(_numbers, headings))


def test_equations_are_read_as_they_are_written() -> None:
    assert _numbers("losses (Eq 3, 4, 6), levels (Eq 10-12)") == {3, 4, 6, 10, 11, 12}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)]+)\)", page.read_text()):
        path, _, heading = target.partition("#")
        if path.startswith("http"):
            continue
        linked = page.parent / path if path else page
        assert linked.exists(), f"{page.name}: {target}"
        if heading:
            titles = [line.lstrip("# ").strip() for line in linked.read_text().splitlines() if line.startswith("#")]
            assert heading in {re.sub(r"[^\w -]", "", title).lower().replace(" ", "-") for title in titles}, target


@pytest.mark.parametrize("page", [page for page in PAGES if page.name != "CHANGELOG.md"], ids=lambda page: page.name)
def test_the_files_that_a_page_names_exist(page: Path) -> None:
    named = set(
        re.findall(r"\b(?:lgsid_ray|tests|docs|jobs|configs|cluster|benchmarks)/[\w/.-]+\.\w+", page.read_text())
    )
    assert [name for name in sorted(named - MINE) if not (ROOT / name).exists()] == []
