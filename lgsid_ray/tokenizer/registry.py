"""The tokenizers: a file each, a config each (config/tokenizer.py), an entry each."""

from typing import Any, Protocol

from lgsid_ray.artifacts.spans import Span
from lgsid_ray.execution.storage import StageDir
from lgsid_ray.tokenizer import geo_fused, hgit, random, res_kmeans, unified_sid
from lgsid_ray.tokenizer.fit import History
from lgsid_ray.tokenizer.shard import Shards
from lgsid_ray.tokenizer.tokenizer import Tokenizer
from lgsid_ray.tokenizer.training import train_rq_vae


class Fit(Protocol):
    """How a tokenizer is fitted to the training items."""

    def __call__(self, shards: Shards, config: Any, seed: int) -> tuple[Tokenizer, History]:
        """A tokenizer under the section of its kind; the same for any number of actors. And a row per epoch, if any."""


class Train(Protocol):
    """How a tokenizer with a network is trained."""

    def __call__(self, work: list[Span], config: Any, seed: int, out: StageDir) -> tuple[Tokenizer, History]:
        """A tokenizer under the section of its kind, and a row per step; goes on with what stands in `out`."""


FITS: dict[str, Fit] = {
    "hgit": hgit.fit,
    "res_kmeans": res_kmeans.fit,
    "geo_fused": geo_fused.fit,
    "unified_sid": unified_sid.fit,
    "random": random.fit,
}
TRAINED: dict[str, Train] = {"rq_vae": train_rq_vae}
