"""Prompts and the language model that embeds them."""

from typing import Annotated, Literal

from pydantic import Field

from lgsid_ray.config.base import Section, resource


class PromptConfig(Section):
    """Templates of the prompt P = [P_content, P_location]; a field that is null drops out with its clause.

    Fields are the columns of the catalogue's items and `geohash`, made from lat and lon.
    """

    content: list[str] = ["{name}", "brand {brand}", "{category_1}", "{category_2}", "price {price}"]
    location: list[str] = ["district {district}", "city {city}", "province {province}"]
    separator: str = ", "
    document_prefix: str = ""
    """Before every item's prompt; what a model was trained with, for example `passage: ` (E5)."""
    query_prefix: str = ""
    """Before every free-text query: `query: ` (E5), an instruction (BGE, Qwen3)."""
    geohash_precision: int = Field(default=5, ge=1, le=12)
    """Characters of `{geohash}`: 5 is a cell of about 5 km."""


class EncoderConfig(Section):
    """The embedding model and how it is run."""

    kind: Literal["hf", "random_projection"] = "hf"
    """`random_projection` hashes words into random vectors: no meaning, for load tests only."""
    model: str = "minilm"
    """`minilm` (packaged, offline), a local path, or a Hugging Face name, whose weights are taken never to change."""
    pooling: Literal["mean", "cls", "last"] = "mean"
    dimension: int | None = Field(default=None, ge=8)
    """Only for `random_projection`; a language model has its own."""
    max_tokens: int = Field(default=128, ge=8)
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Of the forward pass; weights and vectors are float32. `align.dtype` should be the same."""
    batch_size: int = Field(default=64, ge=1)
    rows: int = Field(default=512, ge=1)
    """Rows of an output part: the unit of work, of resuming and of embedding equal prompts once."""
    actors: int = resource(2, ge=1)
    gpus_per_actor: float = Field(default=0, ge=0)
    prompt: PromptConfig = Field(default_factory=PromptConfig)


class FusionConfig(Section):
    """Text fusion: embeddings of location texts, whitened, put into the reference embeddings without training."""

    weight: Annotated[float, Field(ge=0)] | Literal["auto"] = "auto"
    """How much of the location goes in; `auto`: as much as the semantic floor allows."""
    floor: float = Field(default=0.97, gt=0, le=1)
    """Semantic floor of weight = auto: share of Similarity@5 that training items keep."""
