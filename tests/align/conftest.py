"""A tiny language model, a tiny finished catalogue, and a plain training loop in the harness's place."""

from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from torch import nn

from lgsid_ray.align import stage
from lgsid_ray.artifacts import Embeddings, Items, Lists, Negatives, Table, Triples
from lgsid_ray.artifacts.embeddings import column
from lgsid_ray.config import RunConfig, load
from lgsid_ray.config.encoder import EncoderConfig, PromptConfig
from lgsid_ray.encoder.model import TextEncoder, load_model
from lgsid_ray.encoder.prompts import combine, content_prompts, full_prompts, location_prompts
from lgsid_ray.execution.storage import StageDir
from lgsid_ray.execution.train import Trained, constant
from lgsid_ray.geo.distance import haversine_km

ITEMS_COUNT, NEGATIVES_COUNT = 48, 4


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """For tensors as small as these, threads only wait for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A path to a random BERT of width 16 under MiniLM's tokenizer: fast, and its modules bear BERT's names."""
    from transformers import BertConfig, BertModel

    folder = str(tmp_path_factory.mktemp("tiny"))
    tokenizer, _ = load_model("minilm")
    torch.manual_seed(0)
    size = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    BertModel(BertConfig(vocab_size=len(tokenizer), initializer_range=0.3, **size)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def inputs(tiny_model: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, StageDir]:
    """Finished stages before `reward` and `align`, each in two parts; every eighth item is held out."""
    root = tmp_path_factory.mktemp("inputs")
    stages = {name: StageDir(f"{root}/{name}").make() for name in ("catalogue", "embed", "sample", "embed_lists")}
    stages["prefer"] = StageDir(f"{root}/prefer").make()
    rng, index = np.random.default_rng(0), np.arange(ITEMS_COUNT)
    town = rng.integers(0, 6, ITEMS_COUNT)
    lat, lon = 40 + town // 3 + 0.1 * rng.random(ITEMS_COUNT), -74 + town % 3 + 0.1 * rng.random(ITEMS_COUNT)
    columns: dict[str, Any] = {field.name: pa.nulls(ITEMS_COUNT, field.type) for field in Items.schema}
    columns |= {"item_index": index, "item_id": [f"i{i}" for i in index], "lat": lat, "lon": lon}
    columns |= {"name": [f"{['bar', 'café', 'shop'][i % 3]} {i}" for i in index]}
    columns |= {"province": [f"p{t // 3}" for t in town], "city": [f"c{t // 2}" for t in town]}
    columns |= {"district": [f"d{t}" for t in town], "split": ["train" if i % 8 else "held_random" for i in index]}
    items = Items(stages["catalogue"]).conform(pa.table(columns))
    write(Items(stages["catalogue"]), items)

    settings = EncoderConfig(model=tiny_model)
    encoder = TextEncoder(settings)
    columns = {"item_index": index, "item_id": columns["item_id"]}
    columns["embedding"] = column(encoder.encode(full_prompts(items, settings.prompt)))
    write(Embeddings(stages["embed"]), pa.table(columns))

    stages["fuse"] = StageDir(f"{root}/fuse").make()
    place = rng.normal(size=(6, 16))[town]
    fused = encoder.encode(full_prompts(items, settings.prompt)) + 0.1 * place
    columns["embedding"] = column((fused / np.linalg.norm(fused, axis=1, keepdims=True)).astype(np.float32))
    write(Embeddings(stages["fuse"]), pa.table(columns))

    train = index[index % 8 > 0]
    anchors = train[:40]
    others = np.stack([rng.choice(train[train != anchor], NEGATIVES_COUNT, replace=False) for anchor in anchors])
    distance = haversine_km(lat[anchors][:, None], lon[anchors][:, None], lat[others], lon[others])
    order = np.argsort(distance, axis=1)
    others, distance = np.take_along_axis(others, order, 1), np.take_along_axis(distance, order, 1)
    columns = {"item_index": anchors, "negatives": list(others), "distance_km": list(distance), "rank": list(others)}
    write(Negatives(stages["sample"]), pa.table(columns))
    contents, locations = (
        np.array(half(items, settings.prompt), object) for half in (content_prompts, location_prompts)
    )
    listed = np.concatenate([anchors[:, None], others], axis=1)
    texts = combine(np.repeat(contents[anchors], listed.shape[1]), locations[listed.ravel()], PromptConfig())
    vectors = encoder.encode(texts).reshape(len(anchors), -1)
    columns = {"item_index": anchors, "negatives": list(others), "embedding": column(vectors)}
    write(Lists(stages["embed_lists"]), pa.table(columns))

    drawn = []
    for anchor in np.tile(train, 2):
        near, far = train[(town[train] == town[anchor]) & (train != anchor)], train[town[train] != town[anchor]]
        drawn.append((anchor, rng.choice(near), rng.choice(far)))
    columns = dict(zip(("anchor", "positive", "negative"), np.array(drawn).T, strict=True))
    columns |= {"source": ["near"] * len(drawn), "hard": [False] * len(drawn)}
    write(Triples(stages["prefer"]), pa.table(columns))
    return stages


def write(table: Table, rows: pa.Table) -> None:
    for part, start in enumerate(range(0, len(rows), 25)):
        table.write(rows.slice(start, 25), f"part-{part:05d}.parquet")


@pytest.fixture
def configure(tiny_model: str) -> Callable[..., RunConfig]:
    """A small configuration with overrides."""
    small = [
        "align.objective=gdpo",
        "reward.epochs=6",
        "reward.hidden=8",
        "reward.batch_size=8",
        "reward.allow_chance=true",
    ]
    small += ["align.steps=4", "align.batch_size=8", "align.warmup=1", "align.probe=24", "align.probe_steps=2"]
    small += ["align.learning_rate=0.02", f"encoder.model={tiny_model}"]
    return lambda *overrides: load(None, [*small, *overrides])


class _Wrapped(nn.Module):
    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, *arguments: Any) -> torch.Tensor:
        return self.module(*arguments)


class _PlainEngine:
    """What the loops ask of `lgsid_ray.execution.engine.Engine`, by torch alone."""

    latest: "_PlainEngine"

    def __init__(self, model: nn.Module, learning_rate: float, weight_decay: float, zero_stage: int) -> None:
        self.model, self.device = _Wrapped(model), torch.device("cpu")
        self.learning = {name: p for name, p in model.named_parameters() if p.requires_grad}
        self.rate = learning_rate
        self.optimiser = torch.optim.AdamW(self.learning.values(), lr=learning_rate, weight_decay=weight_decay)
        self.history: list[dict[str, float]] = []
        _PlainEngine.latest = self


def _plain_steps(
    engine: _PlainEngine, steps: int, step: Any, every: int, seed: int, schedule: Any = constant, extra: Any = None
) -> None:
    for number in range(steps):
        torch.manual_seed(hash((seed, number, 0)))
        engine.optimiser.param_groups[0]["lr"] = engine.rate * schedule(number)
        loss, figures = step(number)
        engine.optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(engine.learning.values(), 1.0)
        engine.optimiser.step()
        engine.history.append({"step": number + 1, **figures})


def _plain_fit(
    loop: Callable[[dict[str, Any]], None], settings: dict[str, Any], trainer: Any, out: StageDir
) -> Trained:
    loop(settings)
    engine = _PlainEngine.latest
    return Trained({name: p.detach().clone() for name, p in engine.learning.items()}, engine.history)


@pytest.fixture
def plain_harness(monkeypatch: pytest.MonkeyPatch) -> None:
    """The stages' own loops on one worker in this process, without Ray and DeepSpeed."""
    context = SimpleNamespace(get_world_rank=lambda: 0, get_world_size=lambda: 1)
    monkeypatch.setattr("ray.train.get_context", lambda: context)
    monkeypatch.setattr("torch.distributed.all_reduce", lambda tensor: None)
    monkeypatch.setattr(stage, "Engine", _PlainEngine)
    monkeypatch.setattr(stage, "train_steps", _plain_steps)
    monkeypatch.setattr(stage, "fit", _plain_fit)


@pytest.fixture
def trained_reward(
    plain_harness: None, inputs: dict[str, StageDir], configure: Callable[..., RunConfig], tmp_path: Path
) -> dict[str, StageDir]:
    """`inputs` with the reward stage finished."""
    out = StageDir(f"{tmp_path}/reward").make()
    stage.reward(configure(), inputs, out)
    return {**inputs, "reward": out}
