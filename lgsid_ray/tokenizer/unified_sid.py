"""Residual K-Means whose first levels compare angles and whose last compare distances.

After UnifiedSID (Lin et al., arXiv 2502.16474), which compares latents of an RQ-VAE so, trained with the recommender;
here the embeddings themselves are compared, and K-Means finds the codes.
"""

from lgsid_ray.config.tokenizer import UnifiedSidConfig
from lgsid_ray.tokenizer.clustering import kmeans, member_means
from lgsid_ray.tokenizer.fit import History, residual_levels
from lgsid_ray.tokenizer.levels import Level
from lgsid_ray.tokenizer.shard import Shards, View
from lgsid_ray.tokenizer.tokenizer import Tokenizer


def fit(shards: Shards, config: UnifiedSidConfig, seed: int) -> tuple[Tokenizer, History]:
    """The tokenizer of the shards' embeddings; nothing is learnt by steps, so its history is empty.

    A level by angle has unit vectors to compare with, and its members' mean to subtract.
    """
    levels: tuple[Level, ...] = ()
    for number, size in enumerate(config.codes[: config.cosine_levels], start=1):
        view = View(levels=levels, metric="cosine")
        found = kmeans(shards, view, size, config.kmeans, seed, f"level-{number}")
        means = member_means(shards, view, found)
        levels = (*levels, Level("embeddings", found.centroids, means, "cosine", found.price))
    return Tokenizer(config.kind, residual_levels(shards, config.codes, config.kmeans, seed, View(levels=levels))), []
