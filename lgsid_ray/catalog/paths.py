"""Paths into nested columns: `names.primary`, `categories[0]`, `categories[*]`."""

import re
from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

Steps = list[str | int]
"""Names of fields and indices of elements; ALL stands for all elements, joined."""

ALL = -1
_STEP = re.compile(r"\.?([^.\[\]]+)|\[(\d+|\*)\]")


def resolve(path: str, names: Sequence[str]) -> tuple[str, Steps] | None:
    """The column among `names` that `path` starts at, and the steps from there; None: there is none.

    A column that bears the whole path as its name comes first.
    """
    if path in names:
        return path, []
    first = next((match[1] for match in [_STEP.match(path)] if match and match[1]), None)
    if first is None or first not in names or _STEP.sub("", path):
        return None
    steps = [name or (ALL if index == "*" else int(index)) for name, index in _STEP.findall(path)[1:]]
    return (first, steps) if steps else None


def descend(value: Any, steps: Steps) -> Any:
    """What lies at the end of `steps` inside a value of a JSON document; None where the way ends before."""
    for place, step in enumerate(steps):
        if step == ALL:
            inner = [descend(one, steps[place + 1 :]) for one in value] if isinstance(value, list) else []
            return ", ".join(str(one) for one in inner if one is not None) or None
        if isinstance(step, int):
            value = value[step] if isinstance(value, list) and step < len(value) else None
        else:
            value = value.get(step) if isinstance(value, dict) else None
    return value


def descend_structs(column: pa.Array, steps: Steps) -> tuple[pa.Array, Steps]:
    """The column at the end of as many `steps` as lead through structs, and the steps that are left.

    Raises:
        KeyError: a struct has no such field.
    """
    while steps and isinstance(steps[0], str) and pa.types.is_struct(column.type):
        if column.type.get_field_index(steps[0]) < 0:
            raise KeyError(steps[0])
        column, steps = pc.struct_field(column, steps[0]), steps[1:]
    return column, steps


def below(kind: pa.DataType, prefix: str) -> list[str]:
    """The paths to what lies right below a nested column: the parts of a struct, or the elements of a list."""
    if pa.types.is_struct(kind):
        return [f"{prefix}.{kind.field(place).name}" for place in range(kind.num_fields)]
    return [f"{prefix}[0]", f"{prefix}[*]"]


def below_value(value: Any, prefix: str) -> list[str]:
    """The same of a value of a JSON document."""
    return [f"{prefix}.{name}" for name in value] if isinstance(value, dict) else [f"{prefix}[0]", f"{prefix}[*]"]
