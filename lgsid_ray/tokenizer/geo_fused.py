"""Residual K-Means on embeddings with geographic features beside them, as OneLoc (arXiv 2508.14646) has it."""

from lgsid_ray.config.tokenizer import GeoFusedConfig
from lgsid_ray.tokenizer.features import Transform
from lgsid_ray.tokenizer.fit import History, residual_levels
from lgsid_ray.tokenizer.latent import Beside
from lgsid_ray.tokenizer.shard import Shards, View
from lgsid_ray.tokenizer.tokenizer import Tokenizer


def fit(shards: Shards, config: GeoFusedConfig, seed: int) -> tuple[Tokenizer, History]:
    """The tokenizer of the shards' items; where none has a place, it goes by content alone."""
    transform = Transform(config.features, seed, shards.sum("moments", config.features, seed))
    dimension = shards.map("pick", View(), "dimension", seed, 0, 1)[0].shape[1]
    latent = Beside(dimension, config.scale)
    levels = residual_levels(shards, config.codes, config.kmeans, seed, View("embeddings", (), transform, latent))
    return Tokenizer(config.kind, levels, transform, latent), []
