"""The hierarchical tokenizer: level 1 says where, by composite features; learnt residual levels say what (Eq 9-16)."""

import numpy as np

from lgsid_ray.arrays import Float32
from lgsid_ray.config.tokenizer import HgitConfig
from lgsid_ray.tokenizer.features import Transform
from lgsid_ray.tokenizer.fit import History, kmeans, residual_levels, train_levels
from lgsid_ray.tokenizer.levels import Level, on_embeddings
from lgsid_ray.tokenizer.shard import Shards, View
from lgsid_ray.tokenizer.tokenizer import Tokenizer


def fit(shards: Shards, config: HgitConfig, seed: int) -> tuple[Tokenizer, History]:
    """The tokenizer of the shards' items, and the history of its training.

    Where no item has a place, neither coordinates nor a province, city or district, level 1 goes by content alone.
    """
    by_features = config.first_level == "features"
    if by_features:
        transform = Transform(config.features, seed, np.sum(shards.map("moments", config.features, seed)))
        by_features = transform.located
    if by_features:
        first = View("features", (), transform)
        codebook = kmeans(shards, first, config.codes[0], config.kmeans, seed, "level-1")
        view = View("embeddings", (Level("features", codebook, _means(shards, first, codebook)),), transform)
    else:
        view = View("embeddings", residual_levels(shards, config.codes[:1], config.kmeans, seed, View()))
    levels = residual_levels(shards, config.codes, config.kmeans, seed, view)
    history: History = []
    if len(levels) > 1:
        learnt, history = train_levels(shards, view, [level.centres for level in levels[1:]], config, seed)
        levels = (levels[0], *map(on_embeddings, learnt))
    return Tokenizer(config.kind, levels, view.transform), history


def _means(shards: Shards, view: View, codebook: Float32) -> Float32:
    """Level 1's centres: the mean of the members' embeddings; of no member, the mean of all."""
    parts = shards.map("embedding_sums", view, codebook)
    sums, counts = np.sum([s for s, _ in parts], axis=0), np.sum([c for _, c in parts], axis=0)
    overall = sums.sum(axis=0) / counts.sum()
    return np.where(counts[:, None] > 0, sums / np.maximum(counts, 1)[:, None], overall).astype(np.float32)
