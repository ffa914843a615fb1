"""Random IDs, the control: an item's tokens are drawn by its item_id, and say nothing of it.

What a recommender reaches with these it owes to the form of a SID, not to its meaning.
"""

import numpy as np

from lgsid_ray.config.tokenizer import RandomConfig
from lgsid_ray.tokenizer.features import Lots
from lgsid_ray.tokenizer.fit import History
from lgsid_ray.tokenizer.levels import Level
from lgsid_ray.tokenizer.shard import Shards, View
from lgsid_ray.tokenizer.tokenizer import Tokenizer


def fit(shards: Shards, config: RandomConfig, seed: int) -> tuple[Tokenizer, History]:
    """Level l compares the l-th lot of an item with an even grid; decoded, every SID is the embeddings' mean."""
    dimension = shards.map("pick", View(), "dimension", seed, 0, 1)[0].shape[1]
    total = shards.sum("embedding_sums", View(), np.zeros((1, dimension), np.float32), None)
    mean = total.sums / total.counts.sum()
    levels = []
    for place, size in enumerate(config.codes):
        grid = np.full((size, len(config.codes)), 0.5, np.float32)  # the other lots make no difference
        grid[:, place] = (np.arange(size) + 0.5) / size
        centres = np.zeros((size, dimension), np.float32)
        if place == 0:
            centres += mean.astype(np.float32)
        levels.append(Level("features", grid, centres))
    return Tokenizer(config.kind, tuple(levels), Lots(seed, len(config.codes))), []
