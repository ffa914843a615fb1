"""The tokenizers: a file each, a config each (config/tokenizer.py), an entry each."""

from typing import Any, Protocol

from lgsid_ray.tokenizer import hgit, random, res_kmeans
from lgsid_ray.tokenizer.fit import History
from lgsid_ray.tokenizer.shard import Shards
from lgsid_ray.tokenizer.tokenizer import Tokenizer


class Fit(Protocol):
    """How a tokenizer is fitted to the training items."""

    def __call__(self, shards: Shards, config: Any, seed: int) -> tuple[Tokenizer, History]:
        """A tokenizer under the section of its kind; the same for any number of actors. And a row per epoch, if any."""


FITS: dict[str, Fit] = {"hgit": hgit.fit, "res_kmeans": res_kmeans.fit, "random": random.fit}
