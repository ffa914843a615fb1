"""Density-aware negatives (Eq 1)."""

from typing import Literal

from pydantic import Field, model_validator

from lgsid_ray.config.base import Section


class SamplingConfig(Section):
    """Which items lend their location to each anchor's content."""

    negatives: int = Field(default=15, ge=2)
    """K of Eq 1."""
    strategy: Literal["density", "uniform"] = "density"
    """`density`: log-spaced neighbour ranks; `uniform`: the ablation without density."""
    max_rank: int = Field(default=1000, ge=2)
    """Farthest neighbour rank that `density` may draw; ranks count distinct points."""
    max_anchors: int | None = Field(default=600, ge=2)
    """Seeded sub-sample of the training anchors; None takes all."""

    @model_validator(mode="after")
    def _ranks_suffice(self) -> "SamplingConfig":
        if self.max_rank < self.negatives:
            raise ValueError(f"max_rank {self.max_rank} must be at least negatives {self.negatives}")
        return self
