"""Plain residual K-Means: every level clusters what those before it have left of the embeddings (Eq 10-12)."""

from lgsid_ray.config.tokenizer import ResKMeansConfig
from lgsid_ray.tokenizer.fit import History, residual_levels
from lgsid_ray.tokenizer.shard import Shards, View
from lgsid_ray.tokenizer.tokenizer import Tokenizer


def fit(shards: Shards, config: ResKMeansConfig, seed: int) -> tuple[Tokenizer, History]:
    """The tokenizer of the shards' embeddings; nothing is learnt by steps, so its history is empty."""
    return Tokenizer(config.kind, residual_levels(shards, config.codes, config.kmeans, seed, View())), []
