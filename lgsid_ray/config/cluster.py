"""The search, and the resources a run may use."""

from pydantic import Field, model_validator

from lgsid_ray.config.base import Section


class TuneConfig(Section):
    """Search over λ and codebook sizes."""

    trials: int = Field(default=8, ge=1)
    concurrent: int = Field(default=1, ge=1)
    lambdas: tuple[float, float] | None = None
    """Log-uniform range of λ; None leaves λ alone."""
    first_level: list[int] = [16, 32, 64, 128]
    later_levels: list[int] = [16, 32, 64]

    @model_validator(mode="after")
    def _range_of_lambdas(self) -> "TuneConfig":
        if self.lambdas is not None and not 0 < self.lambdas[0] < self.lambdas[1]:
            raise ValueError(f"lambdas {list(self.lambdas)} must be a range [low, high] with 0 < low < high")
        return self


class RayConfig(Section):
    """Resources: never part of a fingerprint, they do not change a result."""

    address: str | None = None
    """None: the cluster of RAY_ADDRESS if set, else a local one."""
    cpus: int | None = Field(default=None, ge=1)
    object_store_mb: int = Field(default=512, ge=80)
    dashboard: bool = False
