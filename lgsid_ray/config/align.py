"""Reward model (Eq 1-4), G-DPO (Eq 6-8) and its challenger."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from lgsid_ray.config.base import Section, resource, selection


class TrainerConfig(Section):
    """How a training loop is spread: Ray Train workers with DeepSpeed inside."""

    workers: int = Field(default=2, ge=1)
    gpus_per_worker: float = Field(default=0, ge=0)
    zero_stage: Literal[0, 1, 2] = 0
    """What DeepSpeed's ZeRO spreads over the workers: 0 nothing, 1 the optimiser's state, 2 gradients too. It spares
    memory, and costs messages at every step: worth it for ID tables of many millions of rows, not for adapters."""
    checkpoint_steps: int = resource(50, ge=1)
    max_failures: int = resource(2, ge=0)


class RewardConfig(Section):
    """The reward model R (Eq 2-4)."""

    input: Literal["single", "pair"] = "pair"
    loss: Literal["wbce", "listnet", "literal", "pointwise"] = "wbce"
    hidden: int = Field(default=256, ge=1)
    epochs: int = Field(default=20, ge=1)
    batch_size: int = Field(default=64, ge=1)
    learning_rate: float = Field(default=1e-3, gt=0)
    weight_decay: float = Field(default=1e-2, ge=0)
    held_out: float = Field(default=0.2, gt=0, lt=1)
    """Share of the anchors on which the gate judges."""
    allow_chance: bool = False
    """Go on even when the held-out ranking is no better than chance."""
    trainer: TrainerConfig = Field(default_factory=TrainerConfig)


class AlignBase(Section):
    """What every objective has: LoRA on the encoder, and how it is trained and watched."""

    objective: str
    enabled: bool = selection(False)
    """Align even where SIDs rest on other embeddings, to set it beside what needs no training."""
    steps: int = Field(ge=1)
    batch_size: int = Field(ge=2)
    learning_rate: float = Field(default=1e-3, gt=0)
    warmup: int = Field(default=10, ge=0)
    """Steps of linear warm-up."""
    lora_rank: int = Field(ge=1)
    lora_alpha: int = Field(ge=1)
    lora_dropout: float = Field(ge=0, lt=1)
    lora_targets: list[str]
    """Names of the modules that get adapters; other architectures call them k_proj, v_proj."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Of forward and backward; the trained weights are float32."""
    floor: float = Field(default=0.97, gt=0, le=1)
    """Semantic floor: share of origin's Similarity@5 that the saved model is to keep. It decides how much of the
    trained adapters goes in, unless λ is a number: that is the user's word."""
    probe: int = Field(default=512, ge=6)
    """Training items among which Similarity@5 and T@5 are watched; and how many queries to the whole catalogue hold the
    floor at the end."""
    probe_steps: int = Field(ge=1)
    """Steps between two looks at the probe."""
    trainer: TrainerConfig = Field(default_factory=TrainerConfig)

    @model_validator(mode="after")
    def _workers_share_the_batch(self) -> Self:
        if self.batch_size % self.trainer.workers:
            raise ValueError(
                f"batch_size {self.batch_size} must be a multiple of trainer.workers {self.trainer.workers}"
            )
        return self


class GdpoConfig(AlignBase):
    """G-DPO (Eq 6-8): preferences between items, judged by the reward model."""

    objective: Literal["gdpo"] = "gdpo"
    beta: float = Field(default=1.0, gt=0)
    """β of Eq 6."""
    lambda_: Annotated[float, Field(ge=0)] | Literal["auto"] = Field(default="auto", alias="lambda")
    """λ of Eq 8, or `auto`: a dual variable that holds the semantic floor."""
    similarity: Literal["infonce", "anchor", "literal"] = "anchor"
    """Form of the regulariser (Eq 7); `anchor` holds a floor, `infonce` is satisfied far below it."""
    temperature: float = Field(default=0.05, gt=0)
    """Of `infonce`."""
    steps: int = Field(default=120, ge=1)
    probe_steps: int = Field(default=15, ge=1)
    """Steps between two looks at the probe; λ = auto moves at each."""
    batch_size: int = Field(default=32, ge=2)
    """Triples a step, over all workers."""
    lora_rank: int = Field(default=8, ge=1)
    lora_alpha: int = Field(default=16, ge=1)
    lora_dropout: float = Field(default=0.05, ge=0, lt=1)
    lora_targets: list[str] = ["key", "value"]


class DistilConfig(AlignBase):
    """Distillation: the encoder learns to embed as whitened text fusion does (section `fusion`), in one forward pass.

    It needs no labels, no coordinates and no reward.
    """

    objective: Literal["distil"] = "distil"
    relations: float = Field(default=4.0, ge=0)
    """Weight of the squared differences between the cosines of a batch's items, beside each item's own."""
    steps: int = Field(default=200, ge=1)
    probe_steps: int = Field(default=50, ge=1)
    batch_size: int = Field(default=48, ge=2)
    """Items a step, over all workers."""
    lora_rank: int = Field(default=16, ge=1)
    lora_alpha: int = Field(default=32, ge=1)
    lora_dropout: float = Field(default=0.0, ge=0, lt=1)
    lora_targets: list[str] = ["query", "key", "value", "dense"]


PREFERENCE = frozenset(
    (field.alias or name) for name, field in GdpoConfig.model_fields.items() if name not in DistilConfig.model_fields
)
"""The settings that G-DPO alone has."""

AlignConfig = Annotated[GdpoConfig | DistilConfig, Field(discriminator="objective")]
