"""A study: named overrides × seeds over one run directory, and what is read off every run."""

import re
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, ValidationError, field_validator, model_validator

from lgsid_ray.config.base import Section
from lgsid_ray.config.tree import Tree, read_tree, refusal
from lgsid_ray.errors import ConfigError

MEASURE = re.compile(r"^\w+:\S.*$")
NAMES = {"tokenizer", "space"}
"""What a measure may hold in braces, see studies/measures.py."""


class StudyConfig(Section):
    """One file of configs/studies/: a paper's table is one, and needs no code."""

    name: Annotated[str, Field(pattern=r"^[\w.-]+$")]
    """Of its folder, RUN/studies/<name>."""
    title: str = ""
    """Above the table."""
    base: str | None = None
    """Configuration that every arm starts from, relative to this file; None: the defaults."""
    until: str | Annotated[list[str], Field(min_length=1)] = "frontier"
    """The stage, or the stages, up to which every arm is run."""
    seeds: list[Annotated[int, Field(ge=0)]] = Field(default=[0], min_length=1)
    resplit: bool = False
    """Whether every seed holds out other places and items too (and makes another synthetic world)."""
    arms: dict[str, dict[str, Any]] = Field(min_length=1)
    """Row → overrides, for example `{Res-KMeans: {tokenizer.kind: res_kmeans}}`; `{}` is the base itself."""
    measures: dict[str, str] = Field(min_length=1)
    """Column → where it stands: `stage:path` in the stage's metrics.json, for example
    `frontier:retrieval[space=aligned,group=all,k=5].district`."""
    agreement: list[tuple[str, str]] = []
    """Pairs of columns of which the rank correlation over the arms is told: does a cheap figure order them alike?"""
    beside: dict[str, dict[str, float]] = Field(default_factory=dict)
    """Rows from elsewhere (a paper's) that are set beside ours: row → column → figure."""
    concurrent: int | None = Field(default=None, ge=1)
    """Runs at once; None: as many as the cluster's CPUs hold, with four for each."""

    @field_validator("measures")
    @classmethod
    def _name_a_stage(cls, measures: dict[str, str]) -> dict[str, str]:
        for column, where in measures.items():
            if not MEASURE.match(where):
                raise ValueError(f"{column}: {where!r} is not `stage:path`")
            if unknown := set(re.findall(r"\{(.*?)\}", where)) - NAMES:
                raise ValueError(f"{column}: {', '.join(unknown)} stands for nothing; {', '.join(sorted(NAMES))} do")
        return measures

    @model_validator(mode="after")
    def _compare_columns(self) -> "StudyConfig":
        if unknown := {name for pair in self.agreement for name in pair} - self.measures.keys():
            raise ValueError(f"agreement: {', '.join(sorted(unknown))} is no column; those of `measures` are")
        return self


def load_study(path: str, overrides: list[str] | None = None) -> tuple[StudyConfig, Tree]:
    """The study, and the tree of its base with `overrides` put in.

    Raises:
        ConfigError: a file is missing or not YAML, or a value is refused; the key's path is named.
    """
    tree = read_tree(path)
    try:
        study = StudyConfig.model_validate(tree)
    except ValidationError as error:
        raise ConfigError(refusal(error, tree, f"study {path}")) from None
    base = None if study.base is None else str(Path(path).parent / study.base)
    return study, read_tree(base, overrides)
