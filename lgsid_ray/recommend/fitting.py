"""One training loop for every panel: joint steps, and for each member the weights of its best epoch on valid."""

from typing import Any

import torch
from torch import Tensor

from lgsid_ray.recommend.batches import Batches, order
from lgsid_ray.recommend.panel import Panel

VALID_CHUNK = 4096


@torch.no_grad()
def valid_losses(panel: Panel, batches: Batches) -> dict[str, float]:
    """Mean loss of each member over all validation rows, in evaluation mode."""
    panel.eval()
    total = torch.zeros(len(panel.members), dtype=torch.float64)
    for begin in range(0, len(batches.valid), VALID_CHUNK):
        rows = batches.valid[begin : begin + VALID_CHUNK]
        total += panel(*batches.batch(rows)).double().cpu() * len(rows)
    return dict(zip(panel.members, (total / max(len(batches.valid), 1)).tolist(), strict=True))


class Best:
    """Keeps, member by member, the weights of the epoch with the least validation loss."""

    def __init__(self) -> None:
        self.loss: dict[str, float] = {}
        self.weights: dict[str, Tensor] = {}

    def see(self, panel: Panel, losses: dict[str, float]) -> None:
        """Take over the weights of every member that has improved."""
        for name, loss in losses.items():
            if name not in self.loss or loss < self.loss[name]:
                self.loss[name] = loss
                state = panel.members[name].state_dict()
                self.weights |= {f"{name}|{key}": value.detach().cpu().clone() for key, value in state.items()}


def fit(panel: Panel, batches: Batches, epochs: int, batch_size: int, rate: float, decay: float, seed: int) -> Any:
    best, history = Best(), []
    steps = max(1, len(batches.train) // batch_size)
    optimiser = torch.optim.AdamW(panel.parameters(), lr=rate, weight_decay=decay)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: 1 - step / (steps * epochs))
    for epoch in range(epochs):
        panel.train()
        rows = order(batches.train, seed, epoch)
        total = torch.zeros(len(panel.members))
        for step in range(steps):
            losses = panel(*batches.batch(rows[step * batch_size : (step + 1) * batch_size]))
            optimiser.zero_grad()
            losses.sum().backward()
            optimiser.step()
            schedule.step()
            total += losses.detach()
        valid = valid_losses(panel, batches)
        best.see(panel, valid)
        train = dict(zip(panel.members, (total / steps).tolist(), strict=True))
        history.append({"epoch": epoch + 1, "train": train, "valid": valid})
    return best, history


def restore(panel: Panel, weights: dict[str, Tensor]) -> None:
    """Load the weights that `Best` kept back into the panel."""
    for name, member in panel.members.items():
        prefix = f"{name}|"
        member.load_state_dict({key.removeprefix(prefix): w for key, w in weights.items() if key.startswith(prefix)})
