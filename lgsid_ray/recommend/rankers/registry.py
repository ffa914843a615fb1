"""The rankers by kind: where the next one joins."""

from collections.abc import Mapping
from typing import Any, ClassVar, Protocol

from torch import Tensor

from lgsid_ray.recommend.panel import Losses
from lgsid_ray.recommend.rankers.batches import RankBatch
from lgsid_ray.recommend.rankers.dien import Dien
from lgsid_ray.recommend.rankers.din import Din
from lgsid_ray.recommend.rankers.eta import Eta
from lgsid_ray.recommend.rankers.items import ItemEmbedding
from lgsid_ray.recommend.rankers.sim import Sim
from lgsid_ray.recommend.rankers.twin import Twin


class Ranker(Protocol):
    """What training and scoring ask of a ranker, an `nn.Module`."""

    needs: ClassVar[frozenset[str]]
    """The fields of `RankBatch` that it reads."""

    def __init__(self, items: ItemEmbedding, config: Any) -> None:
        """Args: `config`: its own kind of `rank.models`."""

    def forward(self, batch: RankBatch) -> Tensor:
        """(b,) logits."""

    def losses(self, batch: RankBatch) -> Losses:
        """What it minimises: what it is judged by first, then auxiliary parts, by name."""


RANKERS: Mapping[str, type[Ranker]] = {"din": Din, "dien": Dien, "sim": Sim, "twin": Twin, "eta": Eta}
"""`kind` of a `rank.models` entry → its class, a `Ranker`."""
