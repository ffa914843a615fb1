"""Preference pairs (Eq 5, D_mix)."""

from pydantic import Field

from lgsid_ray.config.base import Section


class PreferenceConfig(Section):
    """Which (anchor, i+, i-) triples G-DPO sees (Eq 5, D_mix)."""

    triples: int = Field(default=4000, ge=1)
    collaborative: float = Field(default=0.3, ge=0, le=1)
    """Share of triples whose i+ is a co-visited item (D_dc); the rest is near (D_gc)."""
    hard: float = Field(default=0.5, ge=0, le=1)
    """Share of i- drawn just outside the anchor's location."""
    threshold: int | None = Field(default=None, ge=1)
    """s_th of Eq 5 as a count; None: by `quantile`."""
    quantile: float = Field(default=0.5, ge=0, lt=1)
    max_history: int = Field(default=200, ge=2)
    """Only a user's latest events count towards co-occurrence."""
