"""The tokenizers, a section for each kind: composite features, K-Means pool and residual quantiser (Eq 9-16)."""

import math
from typing import Annotated, Literal, Self

from pydantic import Discriminator, Field, Tag, model_validator

from lgsid_ray.config.align import TrainerConfig
from lgsid_ray.config.base import Section, resource, selection


class FeatureConfig(Section):
    """F of Eq 9: weights of the standardised blocks."""

    admin: float = Field(default=1.0, ge=0)
    geo: float = Field(default=2.0, ge=0)
    category: float = Field(default=0.3, ge=0)
    brand: float = Field(default=0.1, ge=0)
    position: Literal["xyz", "geohash"] = "xyz"
    """f_geo: a point of the unit sphere, or the prefixes of its geohash as IDs."""
    geohash_precision: int = Field(default=5, ge=1, le=12)
    """Length of the longest prefix; 5 is a cell of some 5 km."""
    ids: Literal["projected", "scaled"] = "projected"
    """`projected`: random projection of one-hot IDs; `scaled`: the paper's scaled raw IDs, which invent an order."""
    projection: int = Field(default=16, ge=1)
    """Dimensions of a projected ID."""


class KMeansConfig(Section):
    """The distributed K-Means."""

    actors: int = resource(2, ge=1)
    method: Literal["lloyd", "minibatch"] = "lloyd"
    iterations: int = Field(default=25, ge=1)
    tolerance: float = Field(default=1e-4, ge=0)
    """`lloyd` stops when the mean squared distance falls by a smaller share than this, unless it is balanced."""
    batch_rows: int = Field(default=65536, ge=1)
    """Rows of a mini-batch, over all shards."""
    balanced: bool = False
    """Give codes prices under which each gets about as many training items, in fitting and in encoding."""


SPARE_BITS = 4
LEVELS = 3  # that `auto` comes to
_Listed = Annotated[list[Annotated[int, Field(ge=1)]], Field(min_length=1, max_length=8), Tag("list")]
# By its type, so that of a list with a wrong entry the entry is named, and not also that it is no "auto".
Sizes = Annotated[
    _Listed | Annotated[Literal["auto"], Tag("auto")],
    Discriminator(lambda given: "auto" if isinstance(given, str) else "list"),
]


LastLevel = Literal["chosen", "shared"]


class TokenizerBase(Section):
    """What every tokenizer has."""

    kind: str
    name: str | None = selection(None, pattern=r"^[a-z0-9][a-z0-9_-]*$")
    """Its name beside others of its kind; None: its kind. `origin` is the arm without SIDs."""
    sizes: Sizes = "auto"
    """Codebook size per level, L is their number; `auto`: three powers of two for as many `bits`."""
    bits: int | None = Field(default=None, ge=3, le=36)
    """How many bits the codes of a SID span where sizes are `auto`; None: 4 more than the items need."""
    embeddings: Literal["auto", "aligned", "fused", "origin"] = "auto"
    """`fused`: reference embeddings with location texts put in, without training; `aligned`: those of an encoder that
    was trained (section `align`); `auto`: fused where prompts say where items are."""
    kmeans: KMeansConfig = Field(default_factory=KMeansConfig)
    beam: int = Field(default=1, ge=1, le=64)
    """How many prefixes an item's encoding follows at once; more find a SID nearer to it, and take as much longer."""
    min_usage: float = Field(default=0.02, ge=0, le=1)
    """Refuse a codebook of which a smaller share is in use: it has collapsed."""
    last_level: LastLevel = "chosen"
    """`chosen`: an item's nearest code. `shared`: the items of a prefix share out its codes, so that SIDs are unique
    where there are enough; what an item has then depends on the others of its prefix."""
    disambiguate: bool = True
    """Write the collision rank into the text form, so that every item has a SID of its own."""

    @property
    def label(self) -> str:
        """What tells it from the other tokenizers of a run."""
        return self.name or self.kind

    @property
    def shares(self) -> bool:
        """Whether last codes are shared out; of a single level, behind no prefix, they are not."""
        return self.last_level == "shared" and (self.sizes == "auto" or len(self.sizes) > 1)

    @property
    def codes(self) -> list[int]:
        """Codes per level, once they are known (see `sized`)."""
        assert self.sizes != "auto", "sizes are proposed before anything is fitted"
        return self.sizes

    def sized(self, items: int, training: int) -> Self:
        """This, with sizes for so many items, of which so many train, in the place of `auto`.

        Bits are shared out evenly, the first levels get what is left over; no codebook is larger than a quarter of
        the training items. With 4 spare bits there are 16 to 32 codes for an item: some are near to no item, and
        the last level can tell neighbours apart. 3 000 items get 64/32/32, 2.3 million 512/512/256.
        """
        if self.sizes != "auto":
            return self
        bits = self.bits or math.ceil(math.log2(max(items, 2))) + SPARE_BITS
        most = max(training // 4, 1).bit_length() - 1
        sizes = [2 ** min(bits // LEVELS + (level < bits % LEVELS), most) for level in range(LEVELS)]
        return self.model_copy(update={"sizes": sizes})

    @model_validator(mode="after")
    def _is_usable(self) -> "TokenizerBase":
        if self.name == "origin":
            raise ValueError("name 'origin' is taken: rankers without SIDs go by it")
        if self.beam > 1 and self.kind == "random":
            raise ValueError(
                f"beam {self.beam}: kind 'random' has nothing to search for, its codes are drawn; leave it out"
            )
        if self.kmeans.balanced and self.kind in ("rq_vae", "random"):
            why = "its codes are learnt by gradient steps" if self.kind == "rq_vae" else "its codes are drawn evenly"
            raise ValueError(f"kmeans.balanced: kind '{self.kind}' has no clusters to balance: {why}; leave it out")
        if self.sizes == "auto":
            return self
        if self.bits is not None:
            raise ValueError(f"bits {self.bits} beside sizes {self.sizes}: bits are for sizes 'auto'")
        if self.last_level == "shared" and len(self.sizes) < 2 and "last_level" in self.model_fields_set:
            raise ValueError("last_level 'shared' needs two sizes or more: it shares out the codes behind a prefix")
        if math.prod(self.sizes) >= 2**63:
            raise ValueError(f"sizes {self.sizes} span 2^63 SIDs or more; nobody needs so many, and they overflow")
        return self


class HgitConfig(TokenizerBase):
    """The hierarchical tokenizer: level 1 from composite features, then learnable residual levels.

    Its codes are used evenly, and its SIDs are an item's own where there are as many.
    """

    kind: Literal["hgit"] = "hgit"
    kmeans: KMeansConfig = Field(default_factory=lambda: KMeansConfig(balanced=True))
    last_level: LastLevel = "shared"
    first_level: Literal["features", "embeddings"] = "features"
    """What level 1 clusters: composite features, unless no item has a place; or content, to tell what those add."""
    features: FeatureConfig = Field(default_factory=FeatureConfig)
    regulariser: float = Field(default=0.5, ge=0)
    """λ_reg of Eq 16, relative to the mean squared residual after level 1."""
    usage: Literal["soft", "hard"] = "soft"
    """Usage in the regulariser: softmax(-d²/τ), or Eq 14's histogram as printed, whose gradient is zero."""
    temperature: float = Field(default=0.05, gt=0)
    """τ of the soft usage, relative to a level's mean squared distance."""
    steps: int = Field(default=300, ge=0)
    """Gradient steps, however many items there are; 0 leaves the levels as K-Means made them."""
    batch_rows: int = Field(default=4096, ge=1)
    """Rows of a gradient step, over all shards."""
    learning_rate: float = Field(default=0.02, gt=0)
    """Of Adam, relative to the root mean square of what a code's rows leave; it falls to nothing over the steps."""


class ResKMeansConfig(TokenizerBase):
    """Plain residual K-Means on embeddings."""

    kind: Literal["res_kmeans"] = "res_kmeans"


class RqVaeConfig(TokenizerBase):
    """RQ-VAE: residual levels in the latent space of an autoencoder that is trained with them."""

    kind: Literal["rq_vae"] = "rq_vae"
    hidden: list[Annotated[int, Field(ge=1)]] = [256, 128]
    """Widths of the encoder's hidden layers; the decoder has them the other way round."""
    latent: int = Field(default=32, ge=1)
    commitment: float = Field(default=0.25, ge=0)
    """β: how much the encoder is drawn to the codes, beside 1 for the codes to it."""
    steps: int = Field(default=3000, ge=1)
    batch_rows: int = Field(default=1024, ge=1)
    learning_rate: float = Field(default=3e-3, gt=0)
    """Of AdamW at its peak; it falls to nothing over the steps."""
    trainer: TrainerConfig = Field(default_factory=TrainerConfig)


class GeoFusedConfig(TokenizerBase):
    """Residual K-Means on embeddings with geographic features beside them, as OneLoc has it."""

    kind: Literal["geo_fused"] = "geo_fused"
    features: FeatureConfig = Field(default_factory=lambda: FeatureConfig(category=0, brand=0))
    scale: float = Field(default=0.25, ge=0)
    """Of the features beside the embeddings."""


class UnifiedSidConfig(TokenizerBase):
    """Residual K-Means by cosine similarity at first and by distance then, after UnifiedSID."""

    kind: Literal["unified_sid"] = "unified_sid"
    cosine_levels: int = Field(default=1, ge=1, le=8)
    """How many levels, from the first, go by cosine similarity; those behind go by distance."""

    @model_validator(mode="after")
    def _has_as_many_levels(self) -> Self:
        if self.cosine_levels > (levels := LEVELS if self.sizes == "auto" else len(self.sizes)):
            raise ValueError(f"cosine_levels {self.cosine_levels}: there are {levels} levels")
        return self


class RandomConfig(TokenizerBase):
    """Random IDs, the control: drawn by item_id, whatever the item is."""

    kind: Literal["random"] = "random"


TokenizerConfig = Annotated[
    HgitConfig | ResKMeansConfig | RqVaeConfig | GeoFusedConfig | UnifiedSidConfig | RandomConfig,
    Field(discriminator="kind"),
]
