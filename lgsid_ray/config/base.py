"""What every section of the configuration tree shares."""

from pydantic import BaseModel, ConfigDict


class Section(BaseModel):
    """A section of the tree: unknown keys and silent conversions are refused, values are frozen."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=False, use_attribute_docstrings=True)
