"""How alignment and SIDs are judged."""

from pydantic import Field

from lgsid_ray.config.base import Section


class EvaluateConfig(Section):
    """Retrieval metrics, clusterings and frontiers (METHOD, How alignment is judged)."""

    ks: list[int] = [5, 10, 100]
    queries: int = Field(default=2000, ge=1)
    """Seeded sub-sample of query items; the corpus is always the whole catalogue."""
    floor: float = Field(default=0.97, gt=0, le=1)
    """f of the geographic gap closed."""
    content: bool = True
    """Embed content-only prompts too, for ContentSimilarity@K."""


class ReportConfig(Section):
    """The HTML page."""

    points: int = Field(default=3000, ge=10)
    """Items drawn on the map and in the t-SNE plots."""
