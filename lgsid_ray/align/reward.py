"""The reward model R (Eq 2): how well a content and a location belong together; and how it is saved."""

from typing import Literal

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, nn

from lgsid_ray.errors import StorageError
from lgsid_ray.execution.storage import StageDir

_WEIGHTS, _SHAPE = "reward.safetensors", "reward.json"


class RewardModel(nn.Module):
    """A two-layer perceptron on prompt embeddings; returns logits.

    Args:
        dimension: of the embeddings.
        hidden: width.
        kind: `single`, the paper's MLP(E_i^j), which can only learn where the content hints at the location; `pair`,
            MLP([E_i, E_i^j, E_i ⊙ E_i^j, |E_i - E_i^j|]), which compares with the anchor.
    """

    def __init__(self, dimension: int, hidden: int, kind: Literal["single", "pair"]) -> None:
        super().__init__()
        self.dimension, self.hidden, self.kind = dimension, hidden, kind
        # Entries of a unit vector are of size 1/√d; the first layer sees entries of size 1.
        self._scale = dimension**0.5
        width = dimension if kind == "single" else 4 * dimension
        self.layers = nn.Sequential(nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, 1))

    def forward(self, anchor: Tensor, candidate: Tensor) -> Tensor:
        """Logits (...,) of candidates (..., dimension) beside their anchors (same shape, or broadcast to it)."""
        y = candidate * self._scale
        if self.kind == "single":
            features = y
        else:
            x = (anchor * self._scale).expand_as(y)
            features = torch.cat([x, y, x * y, (x - y).abs()], dim=-1)
        return self.layers(features).squeeze(-1)


def margins(reward: RewardModel, anchor: Tensor, positive: Tensor, negative: Tensor) -> Tensor:
    """R(i+) - R(i-) as logits, (triples,), for embeddings (triples, dimension) each (Eq 6)."""
    return reward(anchor, positive) - reward(anchor, negative)


def write_reward(model: RewardModel, out: StageDir) -> None:
    """Write `reward.safetensors` and, with what it takes to build the model, `reward.json`."""
    with out.write(_WEIGHTS) as file:
        file.write(save(model.state_dict()))
    out.write_json(_SHAPE, {"input": model.kind, "hidden": model.hidden, "dimension": model.dimension})


def read_reward(folder: StageDir) -> RewardModel:
    """What `write_reward` wrote, frozen.

    Raises:
        StorageError: missing or corrupt; the file and the remedy are named.
    """
    shape = folder.read_json(_SHAPE)
    model = RewardModel(shape["dimension"], shape["hidden"], shape["input"])
    try:
        model.load_state_dict(load(folder.read(_WEIGHTS)))
    except (SafetensorError, RuntimeError) as error:
        raise StorageError(
            f"{folder.path(_WEIGHTS)} is corrupt ({error}); delete {folder.root} and run again"
        ) from error
    return model.requires_grad_(False)
