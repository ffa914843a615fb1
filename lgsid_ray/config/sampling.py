"""Density-aware negatives (Eq 1)."""

from typing import Literal

from pydantic import Field

from lgsid_ray.config.base import Section


class SamplingConfig(Section):
    """Which locations are put under each anchor's content."""

    negatives: int = Field(default=15, ge=2)
    """K of Eq 1."""
    strategy: Literal["density", "uniform"] = "density"
    """`density`: log-spaced neighbour ranks; `uniform`: the ablation without density."""
    max_rank: int = Field(default=1000, ge=1)
    """Farthest neighbour rank that `density` may draw."""
    max_anchors: int | None = Field(default=None, ge=2)
    """Seeded sub-sample of the training anchors; None takes all."""
