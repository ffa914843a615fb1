"""The training harness on real Ray Train workers: the weights of a plain loop, also across failures and restarts."""

import os
import re
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from ray import cloudpickle
from safetensors.torch import load_file, save_file
from torch import nn

from lgsid_ray.config.align import TrainerConfig
from lgsid_ray.errors import StorageError
from lgsid_ray.execution.engine import Engine
from lgsid_ray.execution.failure import explain
from lgsid_ray.execution.storage import StageDir
from lgsid_ray.execution.train import Trained, _drop_torn_snapshot, fit, train_steps, warmup

pytestmark = pytest.mark.usefixtures("ray_local")
cloudpickle.register_pickle_by_value(sys.modules[__name__])  # the workers cannot import this file

STEPS, EVERY, WARMUP = 7, 3, 2
RATE, DECAY, CLIP = 0.05, 0.1, 1.0


def data() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(12, 3, generator=generator), torch.randn(12, 2, generator=generator)


PARTS = ("steep.", "flat.")


def regression() -> nn.ModuleDict:
    """Two models side by side; at the bound CLIP the gradient of one is cut at every step, the other's at none."""
    torch.manual_seed(0)
    parts = [nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.LayerNorm(4), nn.Linear(4, 2)) for _ in PARTS]
    parts[0][0].bias.requires_grad_(False)
    return nn.ModuleDict(dict(zip(("steep", "flat"), parts, strict=True)))


def loss_of(model: nn.ModuleDict, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    return 20 * (model["steep"](x) - y).square().mean() + 0.1 * (model["flat"](x) - y).square().mean()


class Both(nn.ModuleDict):
    """The same, with a forward pass: DeepSpeed wraps a module."""

    def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return loss_of(self, x, y)


def rows_of(number: int) -> list[int]:
    """Another half of the data at every step, so that a skipped or repeated step shows."""
    return [(number * 5 + row) % 12 for row in range(6)]


class Counter:
    """State besides weights: how many steps were taken."""

    def __init__(self) -> None:
        self.steps = 0

    def state_dict(self) -> dict[str, Any]:
        return {"steps": self.steps}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.steps = state["steps"]


def loop(settings: dict[str, Any]) -> None:
    import ray.train

    context = ray.train.get_context()
    rank, world = context.get_world_rank(), context.get_world_size()
    os.environ["TORCH_EXTENSIONS_DIR"] = settings["compiled"]
    engine = Engine(Both(regression()), RATE, DECAY, settings["zero_stage"], CLIP, PARTS)
    counter = Counter()
    x, y = data()
    marker = Path(settings["fail_once"]) if settings["fail_once"] else None

    def step(number: int) -> tuple[torch.Tensor, dict[str, float]]:
        if number == settings["fail_at"] and marker is not None and rank == 0 and not marker.exists():
            marker.touch()
            raise RuntimeError("made to fail")
        counter.steps += 1
        mine = rows_of(number)[rank::world]
        loss = engine.model(x[mine], y[mine])
        return loss, {"loss": loss.item(), "counted": float(counter.steps)}

    train_steps(engine, STEPS, step, every=EVERY, seed=0, schedule=warmup(WARMUP), extra=counter)


def train(out: StageDir, *, workers: int = 2, zero: int = 2, marker: str = "", failures: int = 0) -> Trained:
    compiled = out.path("compiled")
    settings = {"zero_stage": zero, "fail_at": 5, "fail_once": marker, "compiled": compiled}
    trained = fit(loop, settings, TrainerConfig(workers=workers, zero_stage=zero, max_failures=failures), out)
    assert not Path(compiled).exists(), "DeepSpeed has compiled an operator: not every machine has a compiler"
    return trained


def plain() -> tuple[dict[str, torch.Tensor], list[float]]:
    """The same training without Ray and DeepSpeed: (trained weights by name, loss of the whole batch at every step)."""
    model, losses = regression(), []
    x, y = data()
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    decayed = {name: p for name, p in trained.items() if name.endswith("weight") and not name.endswith("2.weight")}
    rest = [p for name, p in trained.items() if name not in decayed]
    optimiser = torch.optim.AdamW(
        [{"params": list(decayed.values()), "weight_decay": DECAY}, {"params": rest, "weight_decay": 0.0}]
    )
    for number in range(STEPS):
        for group in optimiser.param_groups:
            group["lr"] = RATE * min(1.0, (number + 1) / (WARMUP + 1))
        rows = rows_of(number)
        loss = loss_of(model, x[rows], y[rows])
        optimiser.zero_grad()
        loss.backward()
        assert nn.utils.clip_grad_norm_(model["steep"].parameters(), CLIP) > CLIP
        assert nn.utils.clip_grad_norm_(model["flat"].parameters(), CLIP) < CLIP
        optimiser.step()
        losses.append(loss.item())
    return {name: p.detach() for name, p in trained.items()}, losses


def assert_as_plain(trained: Trained) -> None:
    expected, _ = plain()
    assert set(trained.weights) == set(expected)
    for name, value in expected.items():
        assert torch.allclose(trained.weights[name], value, atol=1e-5), name
    assert [row["step"] for row in trained.history] == list(range(1, STEPS + 1))
    assert [row["counted"] for row in trained.history] == list(range(1, STEPS + 1))


def assert_refused(out: StageDir, why: str) -> None:
    with pytest.raises(Exception) as caught:
        train(out, workers=1)
    error = explain(caught.value)
    assert isinstance(error, StorageError)
    assert re.search(rf"{out.path()}/\S*checkpoint\S+ {why}", str(error))


@pytest.mark.parametrize("zero", [0, 1])
def test_whatever_the_stage_of_zero_the_weights_are_those_of_a_plain_loop(tmp_path: Path, zero: int) -> None:
    assert_as_plain(train(StageDir(str(tmp_path)), zero=zero))


def test_a_worker_that_fails_once_changes_nothing(tmp_path: Path) -> None:
    marker = tmp_path / "failed"
    assert_as_plain(train(StageDir(f"{tmp_path}/out").make(), marker=str(marker), failures=1))
    assert marker.exists()


def test_a_stopped_run_goes_on_with_another_number_of_workers(tmp_path: Path) -> None:
    out = StageDir(f"{tmp_path}/out").make()
    with pytest.raises(Exception, match="made to fail"):
        train(out, marker=str(tmp_path / "failed"))
    stopped = sorted(Path(out.path()).rglob("checkpoint*/record.json"))
    assert len(stopped) == 1
    other = StageDir(f"{tmp_path}/other")
    shutil.copytree(out.path(), other.path())
    for state in Path(other.path()).rglob("checkpoint*/state.safetensors"):
        kept = load_file(state)
        save_file({name: value for name, value in kept.items() if name != "exp_avg.flat.3.weight"}, state)
    assert_refused(other, "holds another model's state: exp_avg.flat.3.weight is missing")
    one = train(out, workers=1)
    assert_as_plain(one)
    # Rank 0's share is the whole batch now.
    assert [row["loss"] for row in one.history][EVERY:] == pytest.approx(plain()[1][EVERY:], abs=1e-5)
    again = train(out, workers=1)  # as after a kill between the end of training and the stage's manifest
    assert again.history == one.history
    assert all(torch.equal(again.weights[name], value) for name, value in one.weights.items())
    for state in Path(out.path()).rglob("checkpoint*/state.safetensors"):
        state.write_bytes(b"torn")
    assert_refused(out, "is corrupt.*delete")


def test_a_list_of_checkpoints_that_a_kill_has_torn_goes_with_them(tmp_path: Path) -> None:
    """Ray writes it in place."""
    out = StageDir(f"{tmp_path}/out").make()
    out.write_json("work/train/checkpoint_manager_snapshot.json", {"latest_checkpoint": "checkpoint_1"})
    out.write_json("work/train/checkpoint_1/record.json", {})
    _drop_torn_snapshot(out)
    assert out.members("work/train") == {"checkpoint_manager_snapshot.json", "checkpoint_1"}
    with out.write("work/train/checkpoint_manager_snapshot.json") as file:
        file.write(b'{"latest_')
    _drop_torn_snapshot(out)
    assert not out.exists("work/train")
