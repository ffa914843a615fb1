"""What every section of the configuration tree shares."""

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, model_validator


def resource(default: Any, **bounds: Any) -> Any:
    """A field that says how a result is come by, and never what it is: no part of a stage's identity."""
    return Field(default=default, json_schema_extra={"resource": True}, **bounds)


def selection(default: Any, **bounds: Any) -> Any:
    """A field that says which cells there are, and never what one of them is: no part of a cell's identity."""
    return Field(default=default, json_schema_extra={"resource": True}, **bounds)


class Section(BaseModel):
    """A section of the tree: unknown keys and silent conversions are refused, values are frozen."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=False, use_attribute_docstrings=True, allow_inf_nan=False
    )

    @model_validator(mode="before")
    @classmethod
    def _has_subsections_of_its_own(cls, given: Any) -> Any:
        """What is not said of a subsection is as it is in this section, which may not be as it is elsewhere."""
        if not isinstance(given, Mapping):
            return given
        own = {
            name: {**default.model_dump(exclude_unset=True), **given[name]}
            for name, field in cls.model_fields.items()
            if isinstance(given.get(name), Mapping)
            and isinstance(default := field.get_default(call_default_factory=True), Section)
        }
        return {**given, **own}

    def identity(self) -> dict[str, Any]:
        """The section as JSON values, less its resources: what a fingerprint covers."""
        return self.model_dump(mode="json", by_alias=True, exclude=_resources(self))


def _resources(section: Section) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, field in type(section).model_fields.items():
        value = getattr(section, name)
        if isinstance(value, Section):
            found[name] = _resources(value)
        elif isinstance(field.json_schema_extra, dict) and field.json_schema_extra.get("resource"):
            found[name] = True
    return found
