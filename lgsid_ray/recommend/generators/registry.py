"""The generators by kind: where the next one joins."""

from collections.abc import Mapping
from typing import Any, ClassVar, Protocol, Self, TypeVar

from torch import Tensor

from lgsid_ray.arrays import Int64
from lgsid_ray.recommend.generators.batches import GenerateBatch
from lgsid_ray.recommend.generators.onerec import OneRec
from lgsid_ray.recommend.generators.pointer import Pointer
from lgsid_ray.recommend.generators.sasrec import Sasrec
from lgsid_ray.recommend.generators.tiger import Tiger
from lgsid_ray.recommend.panel import Losses


class State(Protocol):
    """What a generator remembers of the histories and of the tokens written so far."""

    def take(self, parent: Tensor) -> Self:
        """Go on from some of the beams: (b, k) places among the beams of each history."""


_State = TypeVar("_State")


class Generator(Protocol[_State]):
    """What training and beam search ask of a generator, an `nn.Module`; `_State` is its `State`."""

    needs: ClassVar[frozenset[str]]
    """The fields of `GenerateBatch` that it reads."""
    levels: int
    """Tokens of an SID."""

    def __init__(self, tokens: Int64, history: int, config: Any) -> None:
        """Args: `tokens`: (n, L), unique per row; `history`: longest; `config`: its own kind of `generate.models`."""

    def losses(self, batch: GenerateBatch) -> Losses:
        """What it minimises, auxiliary parts by name."""

    def start(self, batch: GenerateBatch) -> _State:
        """Before anything is written."""

    def advance(self, state: _State, token: Tensor) -> tuple[Tensor, _State]:
        """Write (b, k) tokens, the first BEGIN everywhere → (b, k, size of the next level) logits of what follows."""


GENERATORS: Mapping[str, type[Generator[Any]]] = {
    "pointer": Pointer,
    "tiger": Tiger,
    "onerec": OneRec,
    "sasrec": Sasrec,
}
"""`kind` of a `generate.models` entry → its class."""
