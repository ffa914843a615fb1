"""Rankers and generators that show what the SIDs are worth."""

from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import BeforeValidator, Field, model_validator

from lgsid_ray.config.align import TrainerConfig
from lgsid_ray.config.base import Section, selection


def _by_name(value: Any) -> Any:
    """`din` stands for `{kind: din}`: the model with its defaults."""
    return {"kind": value} if isinstance(value, str) else value


class RankerConfig(Section):
    """What all rankers have."""

    dimension: int = Field(default=16, ge=1)
    """Of each embedding table: the item ID's and one per SID level."""
    hidden: int = Field(default=16, ge=1)
    """Width of the attention's hidden layer, or of each of its heads; the model's head has four and two times that."""
    sids: Literal["levels", "ngrams", "shuffled"] = "levels"
    """What of a SID has an embedding: the token of each level, or each prefix (RQ-VAE-ngram of the paper); `shuffled`
    gives every item another's, which tells what SIDs are worth that mean nothing."""
    id_dropout: float = Field(default=0.1, ge=0, lt=1)
    """How often, while training, an item's ID embedding gives way to that of rare items."""


class DinConfig(RankerConfig):
    """DIN: target attention over the history."""

    kind: Literal["din"] = "din"


class DienConfig(RankerConfig):
    """DIEN: a recurrent network whose interests change with the history, and attend to the target."""

    kind: Literal["dien"] = "dien"
    auxiliary: float = Field(default=1.0, ge=0)
    """Weight of the loss that has an interest tell the next click from another."""


class SearchConfig(RankerConfig):
    """What rankers have that search in the latest `rank.long` events."""

    heads: int = Field(default=2, ge=1)
    """Of the attention to what is found, each `hidden` wide."""
    found: int = Field(default=50, ge=1)
    """Events that the search hands on."""


class SimConfig(SearchConfig):
    """SIM: a search that learns by a loss of its own, then attention."""

    kind: Literal["sim"] = "sim"
    search: Literal["soft", "hard"] = "soft"
    """`soft`: by learned products; `hard`: the latest with the target's first token, or without SIDs of the target."""


class TwinConfig(SearchConfig):
    """TWIN: one attention, with what times and ways tell it, searches and attends."""

    kind: Literal["twin"] = "twin"


class EtaConfig(SearchConfig):
    """ETA: a search by the distance of hashes, then attention."""

    kind: Literal["eta"] = "eta"
    bits: int = Field(default=48, ge=1, le=62)
    """Random planes of the hash."""


class PointerConfig(Section):
    """Pointers at what the history suggests, beside a decoder that writes SIDs; one distribution over both."""

    kind: Literal["pointer"] = "pointer"
    dimension: int = Field(default=64, ge=1)
    """Of tokens and users."""
    hidden: int = Field(default=64, ge=1)
    """Width of the layers that weigh what is suggested."""
    dropout: float = Field(default=0.1, ge=0, lt=1)


class TransformerConfig(Section):
    """What all transformers have."""

    dimension: int = Field(default=64, ge=8)
    layers: int = Field(default=1, ge=1)
    """Of the encoder, and as many of a decoder."""
    heads: int = Field(default=4, ge=1)
    dropout: float = Field(default=0.0, ge=0, lt=1)
    """Worth raising only where the validation loss turns; few epochs underfit rather than overfit."""

    @model_validator(mode="after")
    def _heads_fit(self) -> Self:
        if self.dimension % self.heads:
            raise ValueError(f"dimension {self.dimension} must be a multiple of heads {self.heads}")
        return self


class TigerConfig(TransformerConfig):
    """TIGER: an encoder-decoder transformer over SID tokens."""

    kind: Literal["tiger"] = "tiger"


class OneRecConfig(TransformerConfig):
    """OneRec: as TIGER, with a mixture of experts in the decoder, which writes the next five items of a session."""

    kind: Literal["onerec"] = "onerec"
    experts: int = Field(default=8, ge=2)
    """Feed-forward layers, of which every position goes through the two that its gate prefers."""
    balance: float = Field(default=0.01, ge=0)
    """Weight of the loss that keeps all experts in use."""


class SasrecConfig(TransformerConfig):
    """SASRec with cross-entropy over all items: a transformer over items' numbers, which reads no SIDs."""

    kind: Literal["sasrec"] = "sasrec"
    layers: int = Field(default=2, ge=1)
    heads: int = Field(default=1, ge=1)
    dropout: float = Field(default=0.2, ge=0, lt=1)


# Every kind there is; the next one joins here.
Ranker = Annotated[
    DinConfig | DienConfig | SimConfig | TwinConfig | EtaConfig,
    Field(discriminator="kind"),
    BeforeValidator(_by_name),
]
Generator = Annotated[
    PointerConfig | TigerConfig | OneRecConfig | SasrecConfig, Field(discriminator="kind"), BeforeValidator(_by_name)
]
SIDLESS = frozenset({"sasrec"})
"""Generators that know items by their numbers: one cell serves every tokenizer."""


class RankCell(Section):
    """One trained ranker: what sets it apart beside the SIDs it reads."""

    model: Ranker
    seed: int = Field(ge=0)
    """k: initial weights and dropout are drawn from the run's seed · 1000 + k."""


class GenerateCell(Section):
    """One trained generator: what sets it apart beside the SIDs it reads."""

    model: Generator
    seed: int = Field(ge=0)
    """k, as in `RankCell`."""


class RankConfig(Section):
    """CTR prediction with the time split: every model without SIDs ("origin") beside the same with each tokenizer's."""

    enabled: bool = selection(True)
    models: list[Ranker] = selection([DinConfig()], min_length=1)
    """Each by its kind, or as a mapping with `kind` and what differs from its defaults."""
    seeds: int = selection(3, ge=1, le=1000)
    """Initialisations of each model; figures are their mean and standard deviation."""
    history: int = Field(default=20, ge=1)
    """Latest events of the user that a model sees."""
    long: int = Field(default=200, ge=1, le=10_000)
    """Latest events that SIM, TWIN and ETA search in."""
    negatives: int = Field(default=4, ge=1)
    """Per positive: impressions thinned to it, or drawn where the log has none."""
    near: float = Field(default=0.5, ge=0, le=1)
    """Share of drawn negatives near the user's last place; the rest, or all without coordinates, by popularity."""
    neighbours: int = Field(default=100, ge=1)
    """How many nearest items count as near."""
    rating_threshold: float | None = None
    """Ratings from here on are positive; None: the median training rating."""
    rare: int = Field(default=2, ge=0)
    """Items with at most so many positive training samples share one ID embedding: theirs could only be noise."""
    cold: int = Field(default=5, ge=0)
    """Items with at most so many positive training samples are also judged apart."""
    epochs: int = Field(default=2, ge=1)
    batch_size: int = Field(default=512, ge=1)
    """Samples a step, over all workers."""
    learning_rate: float = Field(default=1e-2, gt=0)
    weight_decay: float = Field(default=0.1, ge=0)
    """Holds the item IDs' embeddings back, which fit the training events by heart from the second epoch on."""
    clip: float = Field(default=1.0, gt=0)
    """Bound on the norm of a model's gradient."""
    trainer: TrainerConfig = Field(default_factory=lambda: TrainerConfig(checkpoint_steps=200))

    @model_validator(mode="after")
    def _fits(self) -> "RankConfig":
        return _checked(self)


class GenerateConfig(Section):
    """Next-item generation, leave-one-out, with each tokenizer's SIDs."""

    enabled: bool = selection(True)
    models: list[Generator] = selection([PointerConfig()], min_length=1)
    """Each by its kind, or as a mapping with `kind` and what differs from its defaults."""
    seeds: int = selection(1, ge=1, le=1000)
    """Initialisations of each model; figures are their mean and standard deviation."""
    history: int = Field(default=50, ge=1)
    """Latest events of the user that a model sees."""
    beams: int = Field(default=50, ge=20)
    """Kept at every level: all that they find is weighed with the rules; by itself a generator is judged by 20."""
    queries: int | None = Field(default=2000, ge=1)
    """Seeded sub-sample of the users that are judged; None takes all."""
    epochs: int = Field(default=3, ge=1)
    batch_size: int = Field(default=128, ge=1)
    """Targets a step, over all workers."""
    learning_rate: float = Field(default=3e-3, gt=0)
    weight_decay: float = Field(default=1e-2, ge=0)
    clip: float = Field(default=1.0, gt=0)
    """Bound on the norm of a model's gradient."""
    trainer: TrainerConfig = Field(default_factory=lambda: TrainerConfig(checkpoint_steps=200))

    @model_validator(mode="after")
    def _fits(self) -> "GenerateConfig":
        return _checked(self)


_Trained = TypeVar("_Trained", RankConfig, GenerateConfig)


def _checked(section: _Trained) -> _Trained:
    if section.batch_size < section.trainer.workers:
        raise ValueError(f"batch_size {section.batch_size} leaves some of {section.trainer.workers} workers nothing")
    kinds = [model.kind for model in section.models]
    if len(set(kinds)) < len(kinds):
        raise ValueError(f"models {', '.join(kinds)}: each kind once, since it names the cells; try others in a study")
    return section
