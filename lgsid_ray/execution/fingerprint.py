"""What a stage's result depends on, as one digest; and what of it has changed since the last result.

The code counts too: the module of the stage's function and every module of this package that it imports, each as its
syntax tree without docstrings, annotations of functions and the texts of errors, so that comments, formatting and
wording change nothing, and with the files beside it that it names. Of a registry counts the one entry that the stage
is about: a new ranker leaves the results of the others as they are. Left out is what decides how a result is come by,
and never what it is.
"""

import ast
import hashlib
import json
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

PACKAGE = "lgsid_ray"
ROOT = Path(__file__).parents[1]
HOW = ("cli", "studies", "pipeline", "config", "errors", "execution")
"""Storeys that are left out: a configuration's values count themselves, in the stages that read them."""
WHAT = ("execution.engine", "execution.train")
"""Modules in them that do decide: how weights are updated."""
REGISTRY = "registry"
"""Name of the modules that list the kinds of a thing; each kind lies beside it, in a module of the kind's name."""
SHOWN = 4
"""Changes that one line names."""

Identity = Mapping[str, Any]
"""`stage`, `config`, `cell`, `seed`, `inputs`, `sources`, `code`: JSON values."""


def fingerprint(identity: Identity) -> str:
    """16 hexadecimal digits; equal for equal identities."""
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:16]


def code_of(reference: str, kind: str | None = None) -> dict[str, str]:
    """Module → digest of its code, for everything behind a stage's function (`room.module:name`).

    Args:
        kind: the entry of the room's registry that counts, see `REGISTRY`.
    """
    found: dict[str, str] = {}
    pending = [f"{PACKAGE}.{reference.partition(':')[0]}"]
    while pending:
        module = pending.pop()
        folder, _, name = module.rpartition(".")
        if name == REGISTRY:
            pending += [f"{folder}.{kind}"] if kind else []
            continue
        if module in found or _is_how(module):
            continue
        digest, imported = _module(module)
        found[module] = digest
        pending += imported
    return {module.removeprefix(f"{PACKAGE}."): digest for module, digest in sorted(found.items())}


def changes(before: Identity, now: Identity) -> str:
    """What differs between two identities of one stage, in a few words; empty where nothing does."""
    old, new = dict(_flat(before["config"])), dict(_flat(now["config"]))
    told = [f"{key} {_short(old, key)} → {_short(new, key)}" for key in {**old, **new} if old.get(key) != new.get(key)]
    if before["seed"] != now["seed"]:
        told.append(f"seed {before['seed']} → {now['seed']}")
    if before["cell"] != now["cell"]:
        told.append("the cell's settings")
    if before["sources"] != now["sources"]:
        told.append("source files")
    told += [f"code of {module}" for module in _differing(before["code"], now["code"])]
    told += [f"result of {role}" for role in _differing(before["inputs"], now["inputs"])]
    rest = f" and {len(told) - SHOWN} more" if len(told) > SHOWN else ""
    return ", ".join(told[:SHOWN]) + rest


def _is_how(module: str) -> bool:
    inner = module.removeprefix(f"{PACKAGE}.")
    return inner.partition(".")[0] in HOW and inner not in WHAT


@cache
def _module(module: str) -> tuple[str, list[str]]:
    """A module's digest, and the modules of this package that it imports."""
    file = _file(module)
    tree = ast.parse(file.read_text(encoding="utf-8"))
    nodes = list(ast.walk(tree))
    imported = sorted({name for node in nodes for name in _imports(node)})
    texts = {node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)}
    digest = hashlib.sha256(ast.unparse(_Bare().visit(tree)).encode())
    for beside in sorted(file.parent.iterdir()):
        if beside.name in texts:
            digest.update(beside.read_bytes())
    return digest.hexdigest()[:12], imported


def _file(module: str) -> Path:
    path = ROOT.joinpath(*module.split(".")[1:])
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


def _imports(node: ast.AST) -> Iterator[str]:
    """Modules of this package that an import statement brings in; a package's face is looked through."""
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names if alias.name.startswith(f"{PACKAGE}."))
    elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == PACKAGE:
        module = str(node.module)
        for alias in node.names:
            inner = f"{module}.{alias.name}"
            if _file(inner).is_file():
                yield inner
            elif _file(module).name == "__init__.py":
                yield _behind_face(module, alias.name)
            else:
                yield module


def _behind_face(package: str, name: str) -> str:
    """The module from which a package's __init__ hands `name` on; the package itself where it defines it."""
    for node in ast.walk(ast.parse(_file(package).read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and any((alias.asname or alias.name) == name for alias in node.names):
            return str(node.module)
    return package


class _Bare(ast.NodeTransformer):
    """Takes away what cannot change a result."""

    def visit_Expr(self, node: ast.Expr) -> ast.AST | None:  # the name is ast's
        """Docstrings."""
        text = isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
        return ast.copy_location(ast.Pass(), node) if text else self.generic_visit(node)

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        """Annotations of a function; those of a dataclass are its fields."""
        node.returns = None
        return self.generic_visit(node)

    def visit_arg(self, node: ast.arg) -> ast.AST:
        """Annotation of a parameter."""
        node.annotation = None
        return node

    def visit_Raise(self, node: ast.Raise) -> ast.AST:
        """The text of an error."""
        if isinstance(node.exc, ast.Call):
            node.exc = node.exc.func
        return node


def _flat(tree: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(tree, dict):
        for key, value in tree.items():
            yield from _flat(value, f"{prefix}.{key}" if prefix else str(key))
    else:
        yield prefix, tree


def _short(values: Mapping[str, Any], key: str) -> str:
    text = str(values[key]) if key in values else "unset"
    return text if len(text) <= 40 else f"{text[:37]}..."


def _differing(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    return sorted(key for key in {**before, **now} if before.get(key) != now.get(key))
