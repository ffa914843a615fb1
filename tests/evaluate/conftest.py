"""A small seeded space: three provinces, two cities each, two districts each, meaning and geography apart."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from lgsid_ray.artifacts import Embeddings, ItemLocations, Items, Locations, Sids
from lgsid_ray.artifacts.embeddings import column
from lgsid_ray.artifacts.labels import LEVELS
from lgsid_ray.evaluate.space import SPACES, Corpus, Space, Texts
from lgsid_ray.execution.storage import StageDir
from lgsid_ray.geo.distance import unit_xyz


def normalise(rows: np.ndarray) -> np.ndarray:
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


@dataclass(frozen=True)
class Held:
    """A part that is in memory."""

    space: Space

    @property
    def index(self) -> np.ndarray:
        return self.space.index

    def read(self, names: Sequence[str] = tuple(SPACES)) -> Space:
        return self.space


def corpus_of(space: Space, texts: Texts | None = None, parts: int = 1) -> Corpus:
    """A catalogue whose items are in memory."""
    spaces = tuple(name for name in SPACES if getattr(space, name) is not None)
    cut = np.array_split(np.arange(len(space)), parts)
    return Corpus(space.labels, space.xyz, texts, spaces, [Held(space.rows(rows)) for rows in cut])


def make_corpus(count: int = 240, seed: int = 0, pull: float = 1.0) -> Corpus:
    """`pull` is how strongly the aligned space moves items towards their district."""
    rng = np.random.default_rng(seed)
    district = rng.integers(0, 12, count)
    labels = np.stack([district // 4, district // 2, district], axis=1)
    centre = rng.uniform([30, -110], [45, -80], (12, 2))
    places = centre[district] + rng.normal(scale=0.05, size=(count, 2))
    topic = rng.normal(size=(15, 24))[rng.integers(0, 15, count)]
    direction_of = rng.normal(size=(12, 24))
    direction = direction_of[district]
    content = normalise(topic + 0.7 * rng.normal(size=(count, 24)))
    reference = normalise(content + 0.05 * direction)
    aligned = normalise(reference + 0.15 * pull * direction)
    said = rng.normal(size=24) + 0.3 * direction_of  # location texts have most in common
    texts = Texts(normalise(said), np.arange(12) != 3)
    told = np.where(np.arange(count) % 7 == 0, -1, district)
    xyz = unit_xyz(places[:, 0], places[:, 1])
    return corpus_of(Space(np.arange(count), labels, reference, xyz, aligned, content, told), texts)


@pytest.fixture
def corpus() -> Corpus:
    return make_corpus()


@pytest.fixture
def space(corpus) -> Space:
    """All of its items."""
    return corpus.parts[0].read()


@pytest.fixture
def stages(tmp_path, corpus):
    """Finished input stages on disk, with aligned and content embeddings."""
    return write_stages(tmp_path, corpus)


@pytest.fixture
def stages_of_one_item(tmp_path, corpus, space):
    return write_stages(tmp_path, corpus_of(space.rows(slice(0, 1)), corpus.texts))


def write_stages(root, corpus: Corpus) -> dict[str, StageDir]:
    space = corpus.parts[0].read()
    count = len(space)
    rng = np.random.default_rng(1)
    split = np.array(["train", "train", "train", "held_place", "held_random"])[np.arange(count) % 5]
    columns: dict[str, Any] = {field.name: pa.nulls(count, field.type) for field in Items.schema}
    columns |= {"item_index": np.arange(count), "item_id": [f"i{i}" for i in range(count)], "split": split.tolist()}
    for level, name in enumerate(LEVELS):
        columns[name] = [f"name {c % 5}" if c >= 0 else None for c in space.labels[:, level]]
    columns["name"] = [f"shop {i}" for i in range(count)]
    if space.xyz is not None:
        columns["lat"] = np.degrees(np.arcsin(space.xyz[:, 2]))
        columns["lon"] = np.degrees(np.arctan2(space.xyz[:, 1], space.xyz[:, 0]))
    stages = {name: StageDir(f"{root}/{name}").make() for name in ("catalogue", "embed", "tokenise")}
    Items(stages["catalogue"]).write(pa.table(columns), "part-00000.parquet")
    vectors = {"embed": space.reference, "embed_aligned": space.aligned, "embed_content": space.content}
    for name, matrix in vectors.items():
        if matrix is not None:
            stages[name] = StageDir(f"{root}/{name}").make()
            write_embeddings(stages[name], matrix)
    if corpus.texts is not None:
        stages["embed_location"] = StageDir(f"{root}/embed_location").make()
        write_texts(stages["embed_location"], corpus.texts, space.said)
    tokens = np.stack([space.labels[:, 1].clip(0), rng.integers(0, 4, count)], axis=1)
    order = rng.permutation(count)
    sids = {"item_index": order, "item_id": [f"i{i}" for i in order], "tokens": tokens[order].tolist()}
    sids |= {"collision": np.zeros(count), "sid": [f"<a_{a}><b_{b}>" for a, b in tokens[order]]}
    Sids(stages["tokenise"]).write(pa.table(sids))
    level = {"size": 12, "kl": 0.1, "perplexity": 9.1}
    levels = [level | {"usage": usage, "relative_error": error} for usage, error in ((1.0, 0.7), (0.5, 0.4321))]
    counts = {"items": 240, "distinct_sids": 233, "collision_rate": 0.25, "max_items_per_sid": 5}
    stages["tokenise"].write_json("metrics.json", counts | {"levels": levels})
    return stages


def write_texts(stage: StageDir, texts: Texts, said: np.ndarray) -> None:
    count = len(texts.embedded)
    told = {"text": [f"place {t:02d}" for t in range(count)], "items": [1] * count, "training_items": texts.trained * 1}
    Locations(stage).write(pa.table({**told, "embedding": column(texts.embedded)}), "part-00000.parquet")
    of = {"item_index": np.arange(len(said)), "text": [None if t < 0 else t for t in said.tolist()]}
    ItemLocations(stage).write(pa.table(of), "part-00000.parquet")


def write_embeddings(stage: StageDir, matrix: np.ndarray) -> None:
    for part, rows in enumerate(np.array_split(np.arange(len(matrix)), 3)):
        table = pa.table({"item_index": rows, "item_id": [f"i{i}" for i in rows], "embedding": column(matrix[rows])})
        Embeddings(stage).write(table, f"part-{part:05d}.parquet")
