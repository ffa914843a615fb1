"""How alignment and SIDs are judged, and what the page shows of it."""

from typing import Annotated, Literal

from pydantic import Field, field_validator

from lgsid_ray.config.base import Section

ASKED_FOR = ("kind", "district", "city", "province")
"""What a template of queries may name."""


class EvaluateConfig(Section):
    """Retrieval metrics, clusterings and frontiers (docs/method.md, "How alignment is judged")."""

    ks: list[Annotated[int, Field(ge=1)]] = Field(default=[5, 10, 100], min_length=1)
    """K of the retrieval tables; the frontiers are always taken at 5."""
    queries: Annotated[int, Field(ge=1)] | Literal["auto"] = "auto"
    """Seeded sub-sample of query items, per group; the corpus is always the whole catalogue. `auto`: 2 000, or in
    larger catalogues as many as make 24 million pairs of a query and an item, but no fewer than 200."""
    floor: float = Field(default=0.97, gt=0, le=1)
    """f of the geographic gap closed."""
    clusters: int = Field(default=512, ge=2)
    """Most K-Means clusters compared with the labels (NMI, AMI); fewer where there are fewer labels."""
    cluster_items: int = Field(default=10_000, ge=2)
    """Seeded sub-sample of items that are clustered."""
    query: str = "{kind} near {district}"
    """What somebody types who searches the catalogue, to see what an aligned encoder makes of it: `kind` is the finer
    category of an item, beside it there are `district`, `city` and `province`."""
    content: bool = True
    """Embed content-only prompts too, for ContentSimilarity@K."""

    @field_validator("query")
    @classmethod
    def _names_what_there_is(cls, query: str) -> str:
        try:
            query.format(**dict.fromkeys(ASKED_FOR, "text"))
        except (KeyError, IndexError, ValueError) as error:
            raise ValueError(f"{query!r} is no template of {', '.join(ASKED_FOR)} in braces: {error}") from None
        return query


class ReportConfig(Section):
    """The HTML page."""

    points: int = Field(default=3000, ge=10)
    """Items drawn on the map; the t-SNE plots take at most 1 000 of them."""
