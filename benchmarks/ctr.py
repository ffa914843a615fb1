"""Training samples a second of the rankers: DIN and DIEN beside DeepCTR-Torch's, search beside attention to everything.

Random items and histories; the peers have the same shapes, dense features, batches, optimiser and threads, and every
model takes whole steps (forward, backward, AdamW). The rounds of all models alternate, and the median of each counts.

    pip install --no-deps deepctr-torch==0.3.0
    python benchmarks/ctr.py --items 20000 --batch 512 --threads 2
"""

import argparse
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from lgsid_ray.config.recommend import DienConfig, DinConfig, EtaConfig, SimConfig, TwinConfig
from lgsid_ray.recommend.rankers.batches import RankBatch
from lgsid_ray.recommend.rankers.facts import FACTS
from lgsid_ray.recommend.rankers.items import ItemEmbedding
from lgsid_ray.recommend.rankers.registry import RANKERS

Step = Callable[[], torch.Tensor]
"""Forward: the loss of the next batch."""


def batch(items: int, rows: int, history: int, long: int, rng: np.random.Generator) -> RankBatch:
    """Samples with full histories."""
    told = rng.standard_normal((rows, len(FACTS))).astype(np.float32)
    made = {
        "target": rng.integers(0, items, rows),
        "history": rng.integers(0, items, (rows, history)),
        "passed": rng.integers(0, items, (rows, history)),
        "long": rng.integers(0, items, (rows, long)),
        "gap": rng.exponential(1e6, (rows, long)).astype(np.float32),
        "km": rng.exponential(10, (rows, long)).astype(np.float32),
        "facts": told,
        "alike": np.zeros((rows, 0), dtype=np.float32),
        "label": (rng.random(rows) < 0.2).astype(np.float32),
    }
    return RankBatch(**{name: torch.from_numpy(field) for name, field in made.items()})


def ours(config: Any, items: int, given: RankBatch) -> tuple[nn.Module, Step]:
    """A ranker without SIDs, and its loss."""
    model: Any = RANKERS[config.kind](ItemEmbedding(items, config.dimension, None), config)
    return model, lambda: sum(model.losses(given).values())


def peer(kind: str, config: Any, items: int, given: RankBatch) -> tuple[nn.Module, Step]:
    """DeepCTR-Torch's model of the same name and sizes, and its loss. It numbers items from 1; 0 is padding.

    Its last layers have ReLU, which is cheaper: with Dice there its DIN stops at an assertion of its own.
    """
    from deepctr_torch.inputs import DenseFeat, SparseFeat, VarLenSparseFeat, build_input_features
    from deepctr_torch.models import DIEN, DIN

    length = given.history.shape[1]
    name, size = {"vocabulary_size": items + 1, "embedding_name": "item"}, {"embedding_dim": config.dimension}
    columns = [SparseFeat("item", **name, **size), DenseFeat("facts", len(FACTS))]
    columns.append(VarLenSparseFeat(SparseFeat("hist_item", **name, **size), length, length_name="seq_length"))
    inputs = {"item": given.target + 1, "facts": given.facts, "hist_item": given.history + 1}
    inputs["seq_length"] = torch.full((len(given.target),), length)
    common: dict[str, Any] = {"dnn_hidden_units": (4 * config.hidden, 2 * config.hidden), "l2_reg_embedding": 0.0}
    if kind == "din":
        model = DIN(columns, ["item"], att_hidden_size=(config.hidden,), **common)
    else:
        columns.append(VarLenSparseFeat(SparseFeat("neg_hist_item", **name, **size), length, length_name="seq_length"))
        inputs["neg_hist_item"] = given.passed + 1
        model = DIEN(columns, ["item"], gru_type="AUGRU", use_negsampling=True, **common)
    order = build_input_features(columns)
    x = torch.cat([inputs[key].reshape(len(given.target), -1).float() for key in order], dim=1)

    def loss() -> torch.Tensor:
        click = F.binary_cross_entropy(model(x).squeeze(-1), given.label)
        return click + (model.aux_loss if kind == "dien" else 0.0)

    return model.train(), loss


def rates(models: dict[str, tuple[nn.Module, Step]], rows: int, rounds: int, steps: int) -> dict[str, float]:
    """Samples a second of each, the median over rounds that alternate."""
    optimisers = {name: torch.optim.AdamW(model.parameters(), 1e-3) for name, (model, _) in models.items()}
    seconds: dict[str, list[float]] = {name: [] for name in models}
    for round_ in range(rounds + 1):  # the first warms up
        for name, (_, loss) in models.items():
            begin = time.perf_counter()
            for _ in range(steps):
                optimisers[name].zero_grad()
                loss().backward()
                optimisers[name].step()
            if round_:
                seconds[name].append((time.perf_counter() - begin) / steps)
    return {name: rows / float(np.median(each)) for name, each in seconds.items()}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--items", type=int, default=20_000)
    parser.add_argument("--batch", type=int, default=512)
    parser.add_argument("--history", type=int, default=20)
    parser.add_argument("--long", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    given = batch(args.items, args.batch, args.history, args.long, np.random.default_rng(0))
    for config in (DinConfig(id_dropout=0.0), DienConfig(id_dropout=0.0)):
        pair = {"ours": ours(config, args.items, given), "DeepCTR-Torch": peer(config.kind, config, args.items, given)}
        found = rates(pair, args.batch, args.rounds, args.steps)
        print(
            f"{config.kind}, history {args.history}: " + ", ".join(f"{k} {v:,.0f} samples/s" for k, v in found.items())
        )
        print(f"  ours / DeepCTR-Torch: {found['ours'] / found['DeepCTR-Torch']:.2f}")
    everything = given._replace(history=given.long)
    models = {"attention to everything": ours(DinConfig(id_dropout=0.0), args.items, everything)}
    for one in (SimConfig(id_dropout=0.0), TwinConfig(id_dropout=0.0), EtaConfig(id_dropout=0.0)):
        models[one.kind] = ours(one, args.items, given)
    found = rates(models, args.batch, args.rounds, args.steps)
    for name, rate in found.items():
        print(
            f"{name}, history {args.long}: {rate:,.0f} samples/s, {rate / found['attention to everything']:.2f} times"
        )


if __name__ == "__main__":
    main()
