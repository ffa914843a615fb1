"""The tokenise stage: fit a tokenizer to the training items, stream all items through it, rank collisions."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from lgsid_ray.arrays import Int64
from lgsid_ray.artifacts import Inverse, Items, Sids
from lgsid_ray.artifacts.spans import Span, spans
from lgsid_ray.config import RunConfig
from lgsid_ray.config.tokenizer import TokenizerBase
from lgsid_ray.errors import ConfigError, GateError
from lgsid_ray.execution.stage import Facts, Inputs
from lgsid_ray.execution.storage import StageDir
from lgsid_ray.execution.stream import here, tasks
from lgsid_ray.tokenizer.buckets import (
    FULLEST,
    RESOLVING,
    Settled,
    Site,
    build_trie,
    count,
    look,
    publish,
    settle,
    spread,
)
from lgsid_ray.tokenizer.card import write_card
from lgsid_ray.tokenizer.collisions import Crowd, Held, bucket_starts
from lgsid_ray.tokenizer.encoded import ENCODING
from lgsid_ray.tokenizer.encoding import encode_all
from lgsid_ray.tokenizer.metrics import levels_metrics, tokenizer_metrics
from lgsid_ray.tokenizer.pool import Pool
from lgsid_ray.tokenizer.registry import FITS, TRAINED
from lgsid_ray.tokenizer.survey import Survey, survey_level_1
from lgsid_ray.tokenizer.tokenizer import FILE, Tokenizer
from lgsid_ray.tokenizer.training import training_items

SPAN_ROWS = 65_536
"""Items of a shard, and of a batch that is encoded: the unit of resuming."""
BUCKET_ROWS = 250_000
"""Items of a bucket, about; and of a part of the inverse table."""
LOOKED_AT = 1_000
"""Items of a bucket whose SIDs are looked at to find where the next begins, about."""
Tasks = Callable[[Sequence[Callable[[], Any]]], list[Any]]
"""Does jobs, and returns what they do, in order."""


def tokenise(config: RunConfig, inputs: Inputs, out: StageDir) -> Facts:
    """SIDs for every item: `sids.parquet`, `inverse.parquet`, `tokenizer.safetensors`, `metrics.json`, `history.json`.

    `trie.safetensors` tells generators which tokens may follow which. Beside them `card.md` tells what the tokenizer
    was made from and how good it is, `card.json` the rest of it for programs. The tokenizer is fitted to the training
    items and gives tokens to all. To use every item of a catalogue, hold none out (catalogue.split). A stage that was
    cut short goes on with the tokenizer and the tokens that it has left.

    The driver holds the tokenizer, counts, and one SID of some hundreds. Collisions are ranked in tasks, a bucket of
    SIDs each. Three tasks hold something of every item: that which counts the log (16 bytes an item), that which builds
    the trie (30 a node, of which an item has one to three), and that which surveys level 1 for the card (some 40). Of a
    single span the driver does it all.

    Raises:
        ConfigError: more clusters than training items. GateError: a codebook has collapsed.
    """
    settings, catalogue = config.tokenizer, inputs["catalogue"]
    work = spans(catalogue, inputs["vectors"], SPAN_ROWS)
    tokenizer = fitted(settings, config.seed, work, out)
    encoded, errors = encode_all(work, out, settings.kmeans.actors, settings.shares)
    site, do = Site(catalogue, out, encoded, tokenizer.sizes), tasks if len(encoded) > 1 else here
    for leftover in (Sids.name, Inverse.name, RESOLVING):  # sooner made anew than looked through
        out.remove(leftover)
    counts, chosen, starts = _looked(site, do)
    _require_usage(chosen, settings.min_usage)
    levels = levels_metrics(counts, errors)
    held, fullest = _settled(site, starts, do)
    metrics = tokenizer_metrics(levels, held[-1], errors)
    found = _published(site, metrics["distinct_sids"] < metrics["items"], settings.disambiguate, do)
    out.write_json("metrics.json", metrics)
    write_card(config, inputs, out, tokenizer, metrics, found, held, fullest)
    return {
        **{key: value for key, value in metrics.items() if key != "levels"},
        "sizes": tokenizer.sizes,
        "perplexity": [round(level["perplexity"], 2) for level in metrics["levels"]],
        "usage": [round(level["usage"], 4) for level in metrics["levels"]],
        "level_1": tokenizer.levels[0].space,
        "one_code": [
            level["level"] for level in metrics["levels"] if level["usage"] * level["size"] == 1 < level["size"]
        ],
    }


def _looked(site: Site, do: Tasks) -> tuple[list[Int64], list[Int64], Int64]:
    """Per level how many items have each code, and chose it; the SIDs with which buckets begin. Popularity beside."""
    every = -(-BUCKET_ROWS // LOOKED_AT)
    _, *seen = do([partial(count, site), *(partial(look, span, site, every) for span in range(len(site.encoded)))])
    counts, chosen = (
        [np.sum(level, axis=0) for level in zip(*parts, strict=True)]
        for parts in ([one.counts for one in seen], [one.chosen for one in seen])
    )
    return counts, chosen, bucket_starts(np.concatenate([one.sample for one in seen]), BUCKET_ROWS // every)


def _settled(site: Site, starts: Int64, do: Tasks) -> tuple[list[Counter[int]], list[Crowd]]:
    """Per length of a prefix {items: prefixes that have so many}, and the SIDs with most items, the fullest first."""
    do([partial(spread, span, site, starts) for span in range(len(site.encoded))])
    found: list[Settled] = do([partial(settle, bucket, site) for bucket in range(len(starts) + 1)])
    held = [sum(parts, Held()).prefixes for parts in zip(*(one.held for one in found), strict=True)]
    fullest = sorted((crowd for one in found for crowd in one.fullest), key=lambda crowd: -crowd.items)
    return held, fullest[:FULLEST]


def _published(site: Site, ranked: bool, disambiguate: bool, do: Tasks) -> Survey:
    """Write SIDs and trie, with ranks where items share SIDs, and survey the first level."""
    survey = partial(survey_level_1, Items(site.catalogue), site.encoded, site.sizes[0])
    parts = [partial(publish, span, site, disambiguate) for span in range(len(site.encoded))]
    found: Survey = do([survey, partial(build_trie, site.out, ranked), *parts])[0]  # the longest first
    return found


def fitted(config: TokenizerBase, seed: int, work: list[Span], out: StageDir) -> Tokenizer:
    """Fit, or take up the tokenizer that an interrupted call has left whole."""
    if out.exists(FILE):
        return Tokenizer.load(out)
    out.remove(ENCODING)
    if config.kind in TRAINED:
        settings = _sized(config, work, training_items(work))
        tokenizer, history = TRAINED[config.kind](work, settings, seed, out)
    else:
        pool = Pool(work, config.kmeans.actors, out)
        try:
            settings = _sized(config, work, pool.trained)
            tokenizer, history = FITS[config.kind](pool, settings, seed)
        finally:
            pool.close()
    out.write_json("history.json", history)
    tokenizer = replace(tokenizer, beam=config.beam)
    tokenizer.save(out)  # last: what stands beside it is whole
    return tokenizer


def _sized(config: TokenizerBase, work: list[Span], training: int) -> TokenizerBase:
    """The tokenizer's settings with the sizes for these items."""
    _require_codes(config, training)
    return config.sized(work[-1].stop, training)


def require_items(config: RunConfig, facts: Facts) -> None:
    """Refuse codebooks larger than the number of training items that the catalogue's facts tell.

    Raises:
        ConfigError: sizes and number are named.
    """
    _require_codes(config.tokenizer, facts["item_splits"].get("train", 0))


def _require_codes(config: TokenizerBase, items: int) -> None:
    sizes = config.sizes
    if sizes != "auto" and max(sizes) > items:
        raise ConfigError(
            f"tokenizer.sizes {sizes}: {max(sizes)} clusters for {items} training items; "
            f"choose sizes of at most {items}"
        )


def _require_usage(chosen: list[Int64], least: float) -> None:
    """Refuse a level of which few codes are anybody's choice; those shared out would hide it."""
    for level, counts in enumerate(chosen, start=1):
        usage = float((counts > 0).mean())
        if usage < least:
            raise GateError(
                f"level {level} of the tokenizer uses {usage:.1%} of its {len(counts)} codes, "
                f"less than tokenizer.min_usage={least:g}: it has collapsed. Lower tokenizer.sizes, raise "
                "tokenizer.regulariser where the kind has one, or check that the embeddings differ between items"
            )
