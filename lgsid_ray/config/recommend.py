"""Rankers and generators that show what the SIDs are worth."""

from typing import Literal

from pydantic import Field

from lgsid_ray.config.base import Section


class RankConfig(Section):
    """CTR prediction with the time split."""

    enabled: bool = True
    models: list[Literal["din"]] = ["din"]
    dimension: int = Field(default=16, ge=1)
    history: int = Field(default=20, ge=1)
    negatives: int = Field(default=4, ge=1)
    epochs: int = Field(default=2, ge=1)
    batch_size: int = Field(default=512, ge=1)
    learning_rate: float = Field(default=1e-3, gt=0)
    workers: int = Field(default=2, ge=1)


class GenerateConfig(Section):
    """Next-item generation, leave-one-out."""

    enabled: bool = True
    models: list[Literal["tiger"]] = ["tiger"]
    dimension: int = Field(default=64, ge=8)
    layers: int = Field(default=2, ge=1)
    heads: int = Field(default=4, ge=1)
    history: int = Field(default=20, ge=1)
    beams: int = Field(default=20, ge=1)
    epochs: int = Field(default=5, ge=1)
    batch_size: int = Field(default=128, ge=1)
    learning_rate: float = Field(default=1e-3, gt=0)
    workers: int = Field(default=2, ge=1)
