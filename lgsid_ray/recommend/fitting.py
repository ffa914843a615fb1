"""What every training run of the room shares: the order of its steps, and each member's best epoch on valid."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lgsid_ray.arrays import Int64
from lgsid_ray.execution.engine import load_weights
from lgsid_ray.recommend.batches import Batches
from lgsid_ray.recommend.panel import Panel

CHUNK, CALIBRATED = 1024, 4096
"""Validation rows evaluated at once, and training rows that batch statistics are settled on."""
CURVE_POINTS = 200
"""At most so many points of the training curve are kept."""


@dataclass(frozen=True)
class Schedule:
    """Which rows each step takes, and at which rate: the same for any number of workers, and after a restart."""

    rows: int
    """Training rows."""
    batch_size: int
    epochs: int
    seed: int

    @property
    def epoch_steps(self) -> int:
        """Whole batches an epoch holds; the rest is left to the next epoch's shuffle."""
        return max(1, self.rows // self.batch_size)

    @property
    def steps(self) -> int:
        """Steps of all epochs."""
        return self.epoch_steps * self.epochs

    def ended_epoch(self, step: int) -> int:
        """The 1-based epoch that ended right before `step`; 0 for none."""
        return step // self.epoch_steps if step % self.epoch_steps == 0 else 0

    def scale(self, step: int) -> float:
        """Learning rate relative to its peak: a short warm-up, then linearly down."""
        warmup = max(1, self.steps // 20)
        return min(1.0, (step + 1) / warmup) * (1 - step / self.steps)

    def share(self, shuffled: Int64, step: int, rank: int, workers: int) -> Int64:
        """The rows of `step` that one worker takes; fewer rows than a batch are repeated to fill it."""
        begin = step % self.epoch_steps * self.batch_size
        batch = np.resize(shuffled[begin : begin + self.batch_size], self.batch_size)
        return batch[rank::workers]


@torch.no_grad()
def calibrate(panel: Panel, batches: Batches) -> None:
    """Fix what normalises by batch statistics while training (Dice) to those of one large training batch."""
    if panel.state_dict().keys() > dict(panel.named_parameters()).keys():  # there is more to keep than weights
        panel.train()
        panel(batches.batch(batches.train[:: max(1, len(batches.train) // CALIBRATED)]))
    panel.eval()


@torch.no_grad()
def valid_losses(panel: Panel, batches: Batches) -> dict[str, float]:
    """Each member's mean over all validation rows of the loss that it is judged by, in evaluation mode."""
    panel.eval()
    total = dict.fromkeys(panel.members, 0.0)
    for begin in range(0, len(batches.valid), CHUNK):
        rows = batches.valid[begin : begin + CHUNK]
        for name, losses in panel(batches.batch(rows)).items():
            total[name] += next(iter(losses.values())).item() * len(rows)
    return {name: loss / len(batches.valid) for name, loss in total.items()}


class Best:
    """Chooses, member by member, the epoch with the least validation loss."""

    def __init__(self, panel: Panel, batches: Batches) -> None:
        self.panel, self.batches = panel, batches
        self.losses: list[dict[str, float]] = []
        self.weights: dict[str, dict[str, Tensor]] = {}
        """Of each member, buffers included."""

    def see(self, weights: dict[str, Tensor], origin: str) -> None:
        """Judge the panel's trained weights after the next epoch; keep those of every member that has improved.

        Raises:
            StorageError: they are another panel's; `origin` is where they were read.
        """
        load_weights(self.panel, weights, origin)
        calibrate(self.panel, self.batches)
        losses = valid_losses(self.panel, self.batches)
        for name, member in self.panel.members.items():
            if all(losses[name] < before[name] for before in self.losses):
                self.weights[name] = {key: value.detach().clone() for key, value in member.state_dict().items()}
        self.losses.append(losses)

    def settle(self) -> None:
        """Load every member's best weights into the panel."""
        for name, member in self.panel.members.items():
            member.load_state_dict(self.weights[name])
        self.panel.eval()

    @property
    def epochs(self) -> dict[str, int]:
        """The 1-based best epoch of each member."""
        return {name: int(np.argmin([losses[name] for losses in self.losses])) + 1 for name in self.panel.members}


def curve(
    name: str, history: list[dict[str, float]], valid: list[dict[str, float]], schedule: Schedule
) -> list[dict[str, Any]]:
    """One member's training losses, averaged over spans of steps, and its validation loss at the end of each epoch."""
    span = -(-len(history) // CURVE_POINTS)
    own = [key for key in history[0] if key.startswith(f"{name}/")]
    points: list[dict[str, Any]] = []
    for begin in range(0, len(history), span):
        part = history[begin : begin + span]
        means = {key.removeprefix(f"{name}/"): float(np.mean([row[key] for row in part])) for key in own}
        points.append({"step": part[-1]["step"], **means})
    for epoch, losses in enumerate(valid, 1):
        points.append({"step": epoch * schedule.epoch_steps, "epoch": epoch, "valid": losses[name]})
    return sorted(points, key=lambda point: point["step"])
