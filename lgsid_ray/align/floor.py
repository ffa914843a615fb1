"""λ of Eq 8 as a dual variable: raised while the semantic floor is broken, lowered while there is slack."""

import math
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
