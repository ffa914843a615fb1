"""A model under AdamW inside DeepSpeed ZeRO, on one worker of a training loop: one step, and its whole state."""

from collections.abc import Iterable, Mapping, Sequence

import torch
import torch.distributed
from torch import Tensor, nn

from lgsid_ray.errors import StorageError

_MOMENTS = ("exp_avg", "exp_avg_sq")


class Engine:
    """A model's trainable parameters, their optimiser, and the only hand on the learning rate.

    Args:
        model: on the CPU; moved to this worker's device. Frozen parameters stay as they are.
        learning_rate: peak.
        weight_decay: of matrices and embeddings; scalars and vectors (biases, norms) are not decayed.
        zero_stage: 0 to 2; LoRA leaves too little to train for 3 to pay.
        clip: bound on the gradient's norm.
        parts: prefixes of parameter names; each names a part of the model whose norm is bounded by itself, so that
            one part's gradient never shortens another's step. Every parameter belongs to one of them.
    """

    def __init__(
        self,
        model: nn.Module,
        learning_rate: float,
        weight_decay: float,
        zero_stage: int,
        clip: float = 1.0,
        parts: Sequence[str] = ("",),
    ) -> None:
        import deepspeed
        import ray.train.torch

        # On CPUs it would compile an all-reduce for inference, which training never calls: a minute, and a compiler.
        deepspeed.ops.__compatible_ops__ = {}
        self.device = ray.train.torch.get_device()
        self.parameters = trainable(model)
        self._learning_rate, self._limit = learning_rate, clip
        self._parts = [[p for name, p in self.parameters.items() if name.startswith(part)] for part in parts]
        optimiser = torch.optim.AdamW(decay_groups(self.parameters.values(), weight_decay), lr=learning_rate)
        settings = {
            "train_micro_batch_size_per_gpu": 1,
            "gradient_clipping": 0.0,  # it knows one bound for all
            "zero_optimization": {"stage": zero_stage, "overlap_comm": False},
            "zero_allow_untested_optimizer": True,
            "zero_force_ds_cpu_optimizer": False,
            "steps_per_print": 10**9,
        }
        self.model, self._wrapped, _, _ = deepspeed.initialize(
            model=model.to(self.device), optimizer=optimiser, config=settings, dist_init_required=False
        )
        self._optimiser = optimiser

    def update(self, loss: Tensor, scale: float) -> None:
        """One optimiser step on the mean of all ranks' losses, at `scale` times the peak learning rate."""
        for group in self._wrapped.param_groups:
            group["lr"] = self._learning_rate * scale
        self.model.backward(loss)
        self._clip()
        self.model.step()

    def overwrite(self, name: str, value: Tensor) -> None:
        """Set a parameter by hand, between steps; its moments stay. Every rank must call it with the same value."""
        self._set(self.parameters[name], value.to(self.device), None)

    def state(self) -> dict[str, Tensor]:
        """Weights, moments and step count, whole on every rank. Collective: every rank must call it."""
        self._link_moments()
        state = {"step": torch.tensor(float(self._count()))}
        for name, parameter in self.parameters.items():
            state[f"weight.{name}"] = self._get(parameter, None)
            for key in _MOMENTS:
                state[f"{key}.{name}"] = self._get(parameter, key)
        return {name: value.detach().float().cpu().contiguous().clone() for name, value in state.items()}

    def load_state(self, state: Mapping[str, Tensor], origin: str) -> None:
        """Take up what `state` returned, on any number of workers. Collective.

        Raises:
            StorageError: it is the state of another model; `origin` is where it was read.
        """
        shapes = {f"{key}.{name}": p.shape for name, p in self.parameters.items() for key in ("weight", *_MOMENTS)}
        _require(state, shapes | {"step": torch.Size()}, origin)
        self.update(sum((p.sum() * 0.0 for p in self.parameters.values()), torch.zeros(())), 0.0)  # allocates moments
        self._link_moments()
        for name, parameter in self.parameters.items():
            self._set(parameter, state[f"weight.{name}"].to(self.device), None)
            for key in _MOMENTS:
                self._set(parameter, state[f"{key}.{name}"].to(self.device), key)
        for moments in self._optimiser.state.values():
            moments["step"].fill_(state["step"].item())

    def _clip(self) -> None:
        """Bound the norm of each part's gradient, of which every rank of ZeRO 1 and 2 holds a share."""
        gradients = [[g for g in map(_gradient, part) if g is not None] for part in self._parts]
        square = torch.zeros(len(gradients), dtype=torch.float64, device=self.device)
        for place, part in enumerate(gradients):
            for gradient in part:
                square[place] += torch.linalg.vector_norm(gradient, dtype=torch.float64).square()
        if any(map(_is_sharded, self.parameters.values())):
            torch.distributed.all_reduce(square)
        for part, norm in zip(gradients, square.sqrt().tolist(), strict=True):
            factor = self._limit / (norm + 1e-6)
            if factor < 1:
                for gradient in part:
                    gradient.mul_(factor)

    def _link_moments(self) -> None:
        # ZeRO 1 and 2 link moments to parameters once, behind the first group's first step, when no other has any yet.
        if hasattr(self._wrapped, "_hp_optimizer_states_linked"):
            self._wrapped._hp_optimizer_states_linked = False
            self._wrapped._lazy_init_hp_params_optimizer_state()

    def _count(self) -> int:
        return int(next(iter(self._optimiser.state.values()))["step"])

    def _get(self, parameter: nn.Parameter, key: str | None) -> Tensor:
        from deepspeed.utils import safe_get_full_fp32_param, safe_get_full_optimizer_state

        if not _is_sharded(parameter):
            return parameter.data if key is None else self._optimiser.state[parameter][key]
        if key is None:
            return safe_get_full_fp32_param(parameter)
        return safe_get_full_optimizer_state(parameter, key)

    def _set(self, parameter: nn.Parameter, value: Tensor, key: str | None) -> None:
        from deepspeed.utils import safe_set_full_fp32_param, safe_set_full_optimizer_state

        if key is None:
            parameter.data.copy_(value)
            safe_set_full_fp32_param(parameter, value)  # the master copy, where ZeRO keeps one
        elif _is_sharded(parameter):
            safe_set_full_optimizer_state(parameter, value, key)
        else:
            self._optimiser.state[parameter][key].copy_(value)


def trainable(model: nn.Module) -> dict[str, nn.Parameter]:
    """The parameters that are trained, by name."""
    return {name: p for name, p in model.named_parameters() if p.requires_grad}


def decay_groups(parameters: Iterable[nn.Parameter], weight_decay: float) -> list[dict[str, object]]:
    """Optimiser groups: matrices with weight decay, scalars and vectors without."""
    groups: dict[float, list[nn.Parameter]] = {}
    for parameter in parameters:
        groups.setdefault(weight_decay if parameter.ndim > 1 else 0.0, []).append(parameter)
    return [{"params": members, "weight_decay": decay} for decay, members in groups.items()]


def weights_of(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights by their parameters' names, out of an engine's state."""
    return {name.removeprefix("weight."): value for name, value in state.items() if name.startswith("weight.")}


@torch.no_grad()
def load_weights(model: nn.Module, weights: Mapping[str, Tensor], origin: str) -> None:
    """Set exactly the trainable parameters; buffers and frozen parameters stay.

    Raises:
        StorageError: they are another model's; `origin` is where they were read.
    """
    parameters = trainable(model)
    _require(weights, {name: p.shape for name, p in parameters.items()}, origin)
    for name, parameter in parameters.items():
        parameter.copy_(weights[name])


def _require(found: Mapping[str, Tensor], shapes: Mapping[str, torch.Size], origin: str) -> None:
    wrong = [f"{name} is missing" for name in shapes if name not in found]
    wrong += [f"{name} is unexpected" for name in found if name not in shapes]
    wrong += [
        f"{name} has shape {tuple(found[name].shape)} instead of {tuple(shape)}"
        for name, shape in shapes.items()
        if name in found and found[name].shape != shape
    ]
    if wrong:
        more = f" and {len(wrong) - 3} more" if len(wrong) > 3 else ""
        raise StorageError(
            f"{origin} holds another model's state: {', '.join(wrong[:3])}{more}; delete the stage's folder above it "
            "and run again"
        )


def _is_sharded(parameter: nn.Parameter) -> bool:
    # ZeRO 1 and 2 mark parameters so; it is None on ranks that hold no shard of this one.
    return hasattr(parameter, "_hp_mapping")


def _gradient(parameter: nn.Parameter) -> Tensor | None:
    """What this rank steps by, between backward and step: under ZeRO 1 and 2 its share, in place."""
    if not _is_sharded(parameter):
        return parameter.grad
    shard = parameter._hp_mapping  # type: ignore[attr-defined]
    return None if shard is None else shard.get_lp_grad_fragment(parameter._index_in_param_group)  # type: ignore[attr-defined]
