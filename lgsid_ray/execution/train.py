"""One harness for every training loop: Ray Train V2 around DeepSpeed, on CPUs (gloo) or GPUs (NCCL).

A room writes a function `loop(settings)` that runs on every worker:

    def loop(settings):
        engine = Engine(model, learning_rate, weight_decay, zero_stage)
        def step(number):                       # the same order on every start: draw by (seed, number)
            loss = …on this rank's share of the batch…
            return loss, {"loss": loss.item()}
        train_steps(engine, steps, step, every=50, seed=seed, schedule=warmup(10))

and its stage calls `fit(loop, settings, trainer, out)`, which returns the trained weights and the history. Every
`every` steps the state goes to Ray's checkpoint storage under `out`: weights and optimiser moments assembled from all
ranks (so another number of workers can go on), in safetensors, and the history in JSON. After the death of a
worker or of the driver, training continues from the last of them and ends in the same weights.
"""

import json
import os
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from lgsid_ray.config.align import TrainerConfig
from lgsid_ray.errors import GateError, StorageError
from lgsid_ray.execution.engine import Engine, weights_of
from lgsid_ray.execution.progress import Told, shown
from lgsid_ray.execution.storage import SCRATCH, StageDir

Step = Callable[[int], tuple[torch.Tensor, dict[str, float]]]
Schedule = Callable[[int], float]
"""The learning rate at a step (from 0), relative to its peak."""
_told: Told | None = None  # of this worker process
_STATE, _RECORD = "state.safetensors", "record.json"


class Stateful(Protocol):
    """What else must survive a restart, as JSON values."""

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: dict[str, Any]) -> None: ...


@dataclass(frozen=True)
class Trained:
    """What `fit` returns."""

    weights: dict[str, torch.Tensor]
    """The trainable parameters by name, float32."""
    history: list[dict[str, float]]
    """One row of figures per step (from rank 0)."""


def fit(
    loop: Callable[[dict[str, Any]], None], settings: dict[str, Any], trainer: TrainerConfig, out: StageDir
) -> Trained:
    """Run `loop` on `trainer.workers` workers and return what it trained; continues what stands in `out`.

    Raises:
        StorageError: a checkpoint in `out` is corrupt.
        ray.train.TrainingFailedError: workers failed more often than `trainer.max_failures`.
    """
    import ray
    import ray.train
    from ray.train.torch import TorchConfig, TorchTrainer

    gpu = trainer.gpus_per_worker > 0
    _drop_torn_snapshot(out)
    # A step that leaves a checkpoint waits until Ray next asks its workers; every two seconds is too seldom.
    os.environ.setdefault("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "0.2")
    resources = {"CPU": 1.0, **({"GPU": trainer.gpus_per_worker} if gpu else {})}
    environment = {"TOKENIZERS_PARALLELISM": "false", "DS_ACCELERATOR": "cuda" if gpu else "cpu"}
    trainer_run = TorchTrainer(
        _loop_with_progress,
        train_loop_config={"loop": loop, "settings": ray.put(settings), "out": out},
        torch_config=TorchConfig(backend="nccl" if gpu else "gloo"),
        scaling_config=ray.train.ScalingConfig(
            num_workers=trainer.workers, use_gpu=gpu, resources_per_worker=resources
        ),
        run_config=ray.train.RunConfig(
            name="train",
            storage_path=out.path(SCRATCH),
            storage_filesystem=None if out.is_local else out.arrow,
            failure_config=ray.train.FailureConfig(max_failures=trainer.max_failures),
            checkpoint_config=ray.train.CheckpointConfig(num_to_keep=2),
            logging_config=ray.train.LoggingConfig(log_level="WARNING"),
            worker_runtime_env={"env_vars": environment},  # type: ignore[call-arg]  # typed as the V1 class
        ),
    )
    with shown(out):
        result = trainer_run.fit()
    assert result.checkpoint is not None, "train_steps reports its last step"
    with result.checkpoint.as_directory() as folder:
        state, record = _read(folder, result.checkpoint.path)
    return Trained(weights_of(state), record["history"])


def _drop_torn_snapshot(out: StageDir) -> None:
    """Ray writes its list of checkpoints in place: half of one, from a kill in that instant, would stop every start."""
    snapshot = f"{SCRATCH}/train/checkpoint_manager_snapshot.json"
    if out.exists(snapshot):
        try:
            json.loads(out.read(snapshot))
        except ValueError:
            out.remove(f"{SCRATCH}/train")


def _loop_with_progress(task: dict[str, Any]) -> None:
    """What a worker runs: remember where progress is told, then the room's loop."""
    import ray

    global _told
    _told = Told(task["out"])
    task["loop"](ray.get(task["settings"]))


class Scalars:
    """TensorBoard curves under `out`/tensorboard, written by rank 0 as training goes.

    In an object store, where files do not grow, they appear when training ends.
    """

    def __init__(self, out: StageDir, rank: int) -> None:
        self._out, self._writes, self._folder = out, rank == 0, ""
        self._writer: Any = None

    def add(self, step: int, figures: dict[str, float]) -> None:
        """Add one step's figures."""
        if self._writes and self._writer is None:
            from torch.utils.tensorboard import SummaryWriter

            self._folder = self._out.path("tensorboard") if self._out.is_local else tempfile.mkdtemp()
            # What a killed call wrote of this step and later ones is hidden.
            self._writer = SummaryWriter(self._folder, purge_step=step)
        if self._writer is not None:
            for name, value in figures.items():
                self._writer.add_scalar(name, value, step)

    def close(self) -> None:
        """Write what is pending."""
        if self._writer is not None:
            self._writer.close()
            if not self._out.is_local:
                self._out.fs.put(f"{self._folder}/", f"{self._out.path('tensorboard')}/", recursive=True)
                shutil.rmtree(self._folder)


def constant(_: int) -> float:
    """The peak at every step."""
    return 1.0


def warmup(steps: int) -> Schedule:
    """Linearly up over `steps` steps, then constant."""
    return lambda number: min(1.0, (number + 1) / (steps + 1))


def train_steps(
    engine: Engine,
    steps: int,
    step: Step,
    every: int,
    seed: int,
    schedule: Schedule = constant,
    extra: Stateful | None = None,
) -> None:
    """Take `steps` optimiser steps, from the last checkpoint on if there is one; runs on every worker.

    Args:
        step: (number) -> (loss of this rank's share, figures for the history). Must depend on nothing but its
            number, the weights and `extra`; torch's generator is seeded anew for every step and rank.
        every: steps between checkpoints; the last step always leaves one.
        schedule: the learning rate of every step, and the only word on it.
        extra: state besides weights and optimiser.

    Raises:
        GateError: the loss is no longer finite.
    """
    import ray.train

    rank = ray.train.get_context().get_world_rank()
    start, history = _restore(engine, extra)
    for number in range(start, steps):
        torch.manual_seed(hash((seed, number, rank)))
        loss, figures = step(number)
        if not torch.isfinite(loss):
            raise GateError(f"training diverged: the loss is {loss.item()} at step {number + 1}; lower learning_rate")
        engine.update(loss, schedule(number))
        history.append({"step": number + 1, **figures})
        if rank == 0 and _told is not None:
            _told.tell(number + 1, steps, figures)
        if (number + 1) % every == 0 or number + 1 == steps:
            _report(engine, number + 1, history, extra, rank)


def _report(engine: Engine, done: int, history: list[dict[str, float]], extra: Stateful | None, rank: int) -> None:
    import ray.train

    state = engine.state()
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = None
        if rank == 0:
            save_file(state, os.path.join(folder, _STATE))
            record = {"step": done, "history": history, "extra": extra.state_dict() if extra else None}
            Path(folder, _RECORD).write_text(json.dumps(record), encoding="utf-8")
            checkpoint = ray.train.Checkpoint.from_directory(folder)
        ray.train.report({"step": done}, checkpoint=checkpoint)


def _restore(engine: Engine, extra: Stateful | None) -> tuple[int, list[dict[str, float]]]:
    import ray.train

    checkpoint = ray.train.get_checkpoint()
    if checkpoint is None:
        return 0, []
    with checkpoint.as_directory() as folder:
        state, record = _read(folder, checkpoint.path)
    engine.load_state(state, checkpoint.path)
    if extra is not None:
        extra.load_state_dict(record["extra"])
    return int(record["step"]), list(record["history"])


def _read(folder: str, origin: str) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    try:
        record = json.loads(Path(folder, _RECORD).read_text(encoding="utf-8"))
        return load_file(os.path.join(folder, _STATE)), record
    except (OSError, ValueError, SafetensorError) as error:
        raise StorageError(
            f"checkpoint {origin} is corrupt ({error}); delete the stage's folder above it and run again"
        ) from error
