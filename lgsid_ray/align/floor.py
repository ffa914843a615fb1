"""The semantic floor: λ of Eq 8 as a dual variable while training, and how much of the adapters is kept at its end."""

import math
from collections.abc import Callable
from typing import Any, Literal


class FloorController:
    """Holds Similarity@5 at a share of origin's.

    The problem is to minimise L_align subject to Similarity >= floor · origin; λ is the multiplier of its Lagrangian
    and moves by dual ascent on log λ, so that it stays positive and reaches any scale.

    Args:
        lambda_: a number, which is kept; or `auto`.
        floor: the share to keep.
        origin: Similarity@5 of the reference embeddings on the probe.
    """

    RATE = 60.0
    """Change of log λ per unit of broken floor: 0.01 below it makes λ 1.8 times as large."""
    START, LOW, HIGH = 1.0, 1e-3, 1e3

    def __init__(self, lambda_: float | Literal["auto"], floor: float, origin: float) -> None:
        self._auto, self._floor, self._origin = lambda_ == "auto", floor, origin
        self.value = self.START if lambda_ == "auto" else float(lambda_)

    def observe(self, similarity: float) -> None:
        """Take in the policy's Similarity@5 on the probe."""
        if self._auto:
            step = self.RATE * (self._floor - similarity / self._origin)
            self.value = min(max(self.value * math.exp(max(-1.0, min(1.0, step))), self.LOW), self.HIGH)

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        return {"value": self.value}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a checkpoint."""
        self.value = float(state["value"])


MOST = 1.5
"""Adapters are not believed beyond this multiple of what they were trained to."""
CLOSE, LOOKS = 1.5e-3, 4
"""A share of Similarity this near to the floor is at it; and how often one looks at most."""


def share_at(floor: float, kept: Callable[[float], float]) -> tuple[float, float]:
    """(share, kept): how much of the adapters leaves `floor` of the Similarity, or as near to it as a few looks come.

    What is lost grows with a power of the share, about its square: two looks tell which.

    Args:
        kept: share of the adapters -> share of origin's Similarity@5, falling from 1 at 0.
    """
    share, power, seen = 1.0, 2.0, list[tuple[float, float]]()
    for _ in range(LOOKS):
        seen.append((share, 1 - kept(share)))
        lost = max(seen[-1][1], 1e-6)
        if abs(1 - lost - floor) < CLOSE:
            break
        if len(seen) > 1:
            (before, less), _ = seen[-2:]
            power = min(max(math.log(lost / max(less, 1e-6)) / math.log(share / before), 0.5), 8.0)
        further = min(share * ((1 - floor) / lost) ** (1 / power), MOST)
        if further == share:
            break
        share = further
    best, lost = min(seen, key=lambda one: abs(1 - one[1] - floor))
    return best, 1 - lost
