"""Preference pairs (Eq 5, D_mix)."""

from pydantic import Field, model_validator

from lgsid_ray.config.base import Section


class PreferenceConfig(Section):
    """Which (anchor, i+, i-) triples G-DPO sees (Eq 5, D_mix)."""

    triples: int = Field(default=4000, ge=1)
    collaborative: float = Field(default=0.3, ge=0, le=1)
    """Share of triples whose i+ is a co-visited item (D_dc); the rest is near (D_gc)."""
    hard: float = Field(default=0.3, ge=0, le=1)
    """Share of i- drawn just outside the anchor's district: at the nearest points that lie elsewhere."""
    content: float = Field(default=0.4, ge=0, le=1)
    """Share of i- that resemble the anchor most in the reference space but lie elsewhere; what `hard` and
    `content` leave is drawn uniformly from outside the anchor's district."""
    neighbour: float = Field(default=0.0, ge=0, le=1)
    """Share of near i+ taken from the nearest points; the rest is drawn from the anchor's whole district."""
    wide: float = Field(default=0.3, ge=0, le=1)
    """Share of near triples drawn for the levels above: i+ from the anchor's city or province, i- from outside it;
    without them embeddings learn which district, and forget which districts belong together."""
    threshold: int | None = Field(default=None, ge=1)
    """s_th of Eq 5 as a count, pairs above it are kept; None: by `quantile`."""
    quantile: float = Field(default=0.5, ge=0, lt=1)
    """Quantile of the co-occurrence counts that serves as s_th; the most co-visited pairs are always kept."""
    max_km: float | None = Field(default=None, gt=0)
    """Co-visited pairs farther apart than this are no positives; None keeps them, wherever they lie."""
    max_history: int = Field(default=200, ge=2)
    """Only a user's latest events count towards co-occurrence."""

    @model_validator(mode="after")
    def _shares_fit(self) -> "PreferenceConfig":
        if self.hard + self.content > 1:
            raise ValueError(f"hard {self.hard} + content {self.content} must not exceed 1")
        return self
