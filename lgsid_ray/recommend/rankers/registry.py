"""The rankers by name: where the next one joins."""

from collections.abc import Callable, Mapping
from typing import Protocol

from torch import Tensor, nn

from lgsid_ray.config.recommend import RankConfig
from lgsid_ray.recommend.rankers.din import Din
from lgsid_ray.recommend.rankers.items import ItemEmbedding


class Ranker(Protocol):
    """What the training loop and the scoring ask of a ranker, an `nn.Module`."""

    def forward(self, target: Tensor, history: Tensor) -> Tensor:
        """(b,) item_index and (b, t) item_index, latest first, -1 for padding → (b,) logits."""

    def loss(self, target: Tensor, history: Tensor, label: Tensor) -> Tensor:
        """Scalar to minimise, auxiliary parts included; `label` (b,) 0 or 1."""


RANKERS: Mapping[str, Callable[[ItemEmbedding, RankConfig], nn.Module]] = {
    "din": lambda items, config: Din(items, config.hidden),
}
"""How to build each `rank.models` entry from its item embedding; the module is a `Ranker`."""
