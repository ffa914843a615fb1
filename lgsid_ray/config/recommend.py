"""Rankers and generators that show what the SIDs are worth."""

from typing import Literal, TypeVar

from pydantic import Field, model_validator

from lgsid_ray.config.align import TrainerConfig
from lgsid_ray.config.base import Section


class RankConfig(Section):
    """CTR prediction with the time split: every model without SIDs ("origin") beside the same with them ("lgsid")."""

    enabled: bool = True
    models: list[Literal["din"]] = Field(default=["din"], min_length=1)
    seeds: int = Field(default=3, ge=1)
    """Initialisations of each model; figures are their mean and standard deviation."""
    dimension: int = Field(default=16, ge=1)
    """Of each embedding table: the item ID's and one per SID level."""
    hidden: int = Field(default=16, ge=1)
    """Width of the attention's and the head's last hidden layer."""
    history: int = Field(default=20, ge=1)
    """Latest events of the user that a model sees."""
    negatives: int = Field(default=4, ge=1)
    """Per positive: impressions thinned to it, or drawn where the log has none."""
    near: float = Field(default=0.5, ge=0, le=1)
    """Share of drawn negatives near the user's last place; the rest is drawn by popularity."""
    neighbours: int = Field(default=100, ge=1)
    """How many nearest items count as near."""
    rating_threshold: float | None = None
    """Ratings from here on are positive; None: the median training rating."""
    cold: int = Field(default=5, ge=0)
    """Items with at most so many positive training samples are also judged apart."""
    epochs: int = Field(default=2, ge=1)
    batch_size: int = Field(default=512, ge=1)
    """Samples a step, over all workers."""
    learning_rate: float = Field(default=1e-2, gt=0)
    weight_decay: float = Field(default=0.1, ge=0)
    """Holds the item IDs' embeddings back, which fit the training events by heart from the second epoch on."""
    trainer: TrainerConfig = Field(default_factory=lambda: TrainerConfig(checkpoint_steps=200))

    @model_validator(mode="after")
    def _every_worker_has_a_share(self) -> "RankConfig":
        return _shared_out(self)


class GenerateConfig(Section):
    """Next-item generation, leave-one-out."""

    enabled: bool = True
    models: list[Literal["tiger"]] = Field(default=["tiger"], min_length=1)
    seeds: int = Field(default=1, ge=1)
    """Initialisations of each model; figures are their mean and standard deviation."""
    dimension: int = Field(default=64, ge=8)
    layers: int = Field(default=1, ge=1)
    """Of the encoder, and as many of the decoder."""
    heads: int = Field(default=4, ge=1)
    dropout: float = Field(default=0.0, ge=0, lt=1)
    """Worth raising only where the validation loss turns; few epochs underfit rather than overfit."""
    history: int = Field(default=20, ge=1)
    """Latest events of the user that the encoder sees, each as its SID tokens."""
    beams: int = Field(default=20, ge=10)
    """Kept at every level; the ten best are judged."""
    queries: int | None = Field(default=2000, ge=1)
    """Seeded sub-sample of the users that are judged; None takes all."""
    epochs: int = Field(default=3, ge=1)
    batch_size: int = Field(default=128, ge=1)
    """Targets a step, over all workers."""
    learning_rate: float = Field(default=3e-3, gt=0)
    weight_decay: float = Field(default=1e-2, ge=0)
    trainer: TrainerConfig = Field(default_factory=lambda: TrainerConfig(checkpoint_steps=200))

    @model_validator(mode="after")
    def _every_worker_has_a_share(self) -> "GenerateConfig":
        return _shared_out(self)

    @model_validator(mode="after")
    def _heads_fit(self) -> "GenerateConfig":
        if self.dimension % self.heads:
            raise ValueError(f"dimension {self.dimension} must be a multiple of heads {self.heads}")
        return self


_Trained = TypeVar("_Trained", RankConfig, GenerateConfig)


def _shared_out(section: _Trained) -> _Trained:
    if section.batch_size < section.trainer.workers:
        raise ValueError(f"batch_size {section.batch_size} leaves some of {section.trainer.workers} workers nothing")
    return section
