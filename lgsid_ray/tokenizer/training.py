"""Tokenizers whose network is trained by gradient steps: through the same harness as every other network."""

from typing import Any

import numpy as np
import torch

from lgsid_ray.arrays import Float32, Int64
from lgsid_ray.artifacts.items import trains
from lgsid_ray.artifacts.spans import Span
from lgsid_ray.config.tokenizer import RqVaeConfig
from lgsid_ray.draws import below, random_bits, unit
from lgsid_ray.execution.engine import Engine, load_weights
from lgsid_ray.execution.storage import StageDir
from lgsid_ray.execution.train import fit, train_steps
from lgsid_ray.tokenizer.fit import History
from lgsid_ray.tokenizer.rq_vae import RqVae, tokenizer_of
from lgsid_ray.tokenizer.tokenizer import Tokenizer

SAMPLE = 20_000
"""Training rows that codebooks start from, and on which usage is watched."""
WATCHED_STEPS = 50
"""Between looks at the usage, at which dead codes are revived."""
_SETTLING = 0.2  # share of the steps, the last, in which no code is moved by hand


def train_rq_vae(work: list[Span], config: RqVaeConfig, seed: int, out: StageDir) -> tuple[Tokenizer, History]:
    """The tokenizer of the spans' training items, and a row of figures per step; goes on with what stands in `out`.

    Every worker holds the training items' embeddings.
    """
    sample = _sample(work, seed)
    trained = fit(_loop, {"work": work, "config": config, "seed": seed, "sample": sample}, config.trainer, out)
    model = RqVae(sample, config)
    load_weights(model, trained.weights, out.uri)
    return tokenizer_of(model, config.kind), trained.history


def training_items(work: list[Span]) -> int:
    """How many items the tokenizer is fitted to."""
    return sum(int(trains(span.read_items(["split"])).sum()) for span in work)


def _loop(settings: dict[str, Any]) -> None:
    import ray.train

    work, config, seed = settings["work"], settings["config"], settings["seed"]
    context = ray.train.get_context()
    rank, world = context.get_world_rank(), context.get_world_size()
    vectors = torch.from_numpy(np.concatenate([_training_rows(span) for span in work]))
    torch.manual_seed(seed)
    model = RqVae(settings["sample"], config)
    model.start(settings["sample"], seed)
    engine = Engine(model, config.learning_rate, 0.0, config.trainer.zero_stage)
    network: RqVae = engine.model.module
    sample = torch.from_numpy(settings["sample"]).to(engine.device)

    def step(number: int) -> tuple[torch.Tensor, dict[str, float]]:
        figures: dict[str, float] = {}
        if number % WATCHED_STEPS == 0:
            books, figures = network.revived(sample)
            if 0 < number < (1 - _SETTLING) * config.steps:
                for name, book in books.items():
                    engine.overwrite(name, book)
        chosen = _batch(len(vectors), config.batch_rows, number, seed)[rank::world]
        error, distance = engine.model(vectors[chosen].to(engine.device))
        return error + distance, {"relative_error": error.item(), "codebook_loss": distance.item(), **figures}

    every = config.trainer.checkpoint_steps
    train_steps(engine, config.steps, step, every, seed, schedule=lambda number: 1 - number / config.steps)


def _batch(count: int, rows: int, number: int, seed: int) -> Int64:
    """The rows of a step, by (seed, step) alone."""
    return below(random_bits(seed, "rq-vae-batch", np.arange(rows), number), count)


def _sample(work: list[Span], seed: int) -> Float32:
    """About SAMPLE training rows, by a draw on the item's number alone."""
    chance = min(1.0, SAMPLE / training_items(work))
    return np.concatenate([_training_rows(span, chance, seed) for span in work])


def _training_rows(span: Span, chance: float = 1.0, seed: int = 0) -> Float32:
    train = trains(span.read_items(["split"]))
    if chance < 1:
        train &= unit(random_bits(seed, "rq-vae-sample", np.arange(span.start, span.stop))) < chance
    return span.read_embeddings()[train]
