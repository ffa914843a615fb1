"""The generators by name: where the next one joins."""

from collections.abc import Callable, Mapping
from typing import Protocol

from torch import Tensor, nn

from lgsid_ray.arrays import Int64
from lgsid_ray.config.recommend import GenerateConfig
from lgsid_ray.recommend.generators.tiger import Tiger


class Generator(Protocol):
    """What the training loop and the beam search ask of a generator, an `nn.Module`."""

    levels: int

    def loss(self, history: Tensor, target: Tensor) -> Tensor:
        """Scalar to minimise; (b, t) item_index, latest first, -1 for padding, and (b,) item_index."""

    def encode(self, history: Tensor) -> tuple[Tensor, Tensor]:
        """What every decoding step looks at: a memory and its mask."""

    def log_probabilities(self, memory: Tensor, mask: Tensor, prefix: Tensor) -> Tensor:
        """(b, k, l) tokens → (b, k, size of level l), of the token behind each prefix."""


GENERATORS: Mapping[str, Callable[[Int64, GenerateConfig], nn.Module]] = {
    "tiger": lambda tokens, config: Tiger(
        tokens, config.dimension, config.layers, config.heads, config.history, config.dropout
    ),
}
"""How to build each `generate.models` entry from the items' tokens; the module is a `Generator`."""
