"""Composite features, K-Means pool and residual quantiser (Eq 9-16)."""

from typing import Literal

from pydantic import Field, model_validator

from lgsid_ray.config.base import Section


class FeatureConfig(Section):
    """F of Eq 9: weights of the standardised blocks."""

    admin: float = Field(default=1.0, ge=0)
    geo: float = Field(default=2.0, ge=0)
    category: float = Field(default=0.3, ge=0)
    brand: float = Field(default=0.1, ge=0)
    ids: Literal["projected", "scaled"] = "projected"
    """`projected`: random projection of one-hot IDs; `scaled`: the paper's scaled raw IDs."""
    projection: int = Field(default=16, ge=1)
    """Dimensions of a projected ID block."""


class KMeansConfig(Section):
    """The distributed K-Means of level 1."""

    actors: int = Field(default=2, ge=1)
    method: Literal["lloyd", "minibatch"] = "lloyd"
    iterations: int = Field(default=25, ge=1)
    batch_size: int = Field(default=8192, ge=1)
    balanced: bool = False


class TokenizerConfig(Section):
    """The hierarchical tokenizer."""

    method: Literal["hgit"] = "hgit"
    sizes: list[int] = [64, 32, 32]
    """Codebook size per level; L is their number."""
    embeddings: Literal["aligned", "origin"] = "aligned"
    features: FeatureConfig = Field(default_factory=FeatureConfig)
    kmeans: KMeansConfig = Field(default_factory=KMeansConfig)
    regulariser: float = Field(default=0.1, ge=0)
    """λ_reg of Eq 16."""
    temperature: float = Field(default=0.1, gt=0)
    """τ of the soft usage, relative to the mean squared distance."""
    epochs: int = Field(default=5, ge=0)
    batch_size: int = Field(default=4096, ge=1)
    learning_rate: float = Field(default=1e-3, gt=0)
    disambiguate: bool = True
    """Add a collision rank so that every item has a tuple of its own."""

    @model_validator(mode="after")
    def _sizes_are_sane(self) -> "TokenizerConfig":
        if not self.sizes or min(self.sizes) < 1:
            raise ValueError("sizes needs at least one level, each of size 1 or more")
        return self
