"""The tokenise stage: fit a tokenizer to the training items, stream all items through it, rank collisions."""

from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa

from lgsid_ray.arrays import Int32
from lgsid_ray.artifacts import Interactions, Inverse, Sids, Trie
from lgsid_ray.artifacts.keys import pack_sids
from lgsid_ray.artifacts.sids import unique_tokens
from lgsid_ray.artifacts.spans import Span, spans
from lgsid_ray.artifacts.table import lists
from lgsid_ray.config import RunConfig
from lgsid_ray.config.tokenizer import TokenizerBase
from lgsid_ray.errors import ConfigError, GateError
from lgsid_ray.execution.stage import Facts, Inputs
from lgsid_ray.execution.storage import StageDir
from lgsid_ray.tokenizer.card import write_card
from lgsid_ray.tokenizer.codec import sid_texts
from lgsid_ray.tokenizer.collisions import collision_ranks, inverse_parts, sid_order
from lgsid_ray.tokenizer.encoding import ENCODING, encode_all
from lgsid_ray.tokenizer.metrics import tokenizer_metrics
from lgsid_ray.tokenizer.pool import Pool
from lgsid_ray.tokenizer.registry import FITS, TRAINED
from lgsid_ray.tokenizer.tokenizer import FILE, Tokenizer
from lgsid_ray.tokenizer.training import training_items

SPAN_ROWS = 65_536
"""Items of a shard, and of a batch that is encoded: the unit of resuming."""
INVERSE_ROWS = 500_000


def tokenise(config: RunConfig, inputs: Inputs, out: StageDir) -> Facts:
    """SIDs for every item: `sids.parquet`, `inverse.parquet`, `tokenizer.safetensors`, `metrics.json`, `history.json`.

    `trie.safetensors` tells generators which tokens may follow which. Beside them `card.md` tells what the tokenizer
    was made from and how good it is, `card.json` the rest of it for programs. The tokenizer is fitted to the training
    items and gives tokens to all. To use every item of a catalogue, hold none out (catalogue.split). A stage that was
    cut short goes on with the tokenizer and the tokens that it has left. The driver holds the tokenizer and, to rank
    collisions and to turn the table around, the items' tokens, keys and popularity (some 100 bytes an item).

    Raises:
        ConfigError: more clusters than training items. GateError: a codebook has collapsed.
    """
    settings = config.tokenizer
    work = spans(inputs["catalogue"], inputs["vectors"], SPAN_ROWS)
    tokenizer = fitted(settings, config.seed, work, out)
    encoded = encode_all(work, out, settings.kmeans.actors, settings.last_level == "shared")
    item_id, tokens = encoded.item_id, encoded.tokens
    metrics = tokenizer_metrics(tokenizer.sizes, tokens, encoded.errors)
    _require_usage(metrics, settings.min_usage)
    keys = pack_sids(tokens, tokenizer.sizes)
    order = sid_order(keys, Interactions(inputs["catalogue"]).popularity(len(tokens)), item_id)
    ranks = collision_ranks(keys, order)
    _write_sids(out, item_id, tokens, ranks, settings.disambiguate)
    Inverse(out).remove()
    for number, part in enumerate(inverse_parts(keys, tokenizer.sizes, order, item_id, INVERSE_ROWS)):
        Inverse(out).write(part, f"part-{number:05d}.parquet")
    Trie.build(unique_tokens(tokens, ranks)).save(out)
    out.write_json("metrics.json", metrics)
    write_card(config, inputs, out, tokenizer, tokens, metrics)
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


def _write_sids(out: StageDir, item_id: pa.ChunkedArray, tokens: Int32, ranks: Int32, disambiguate: bool) -> None:
    Sids(out).remove()
    for number, start in enumerate(range(0, len(tokens), SPAN_ROWS)):
        mine, rank = tokens[start : start + SPAN_ROWS], ranks[start : start + SPAN_ROWS]
        columns = {
            "item_index": np.arange(start, start + len(mine)),
            "item_id": item_id.slice(start, len(mine)),
            "tokens": lists(mine, pa.int32()),
            "collision": rank,
            "sid": sid_texts(mine, rank if disambiguate else np.zeros_like(rank)),
        }
        Sids(out).write(pa.table(columns), f"part-{number:05d}.parquet")


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


def _require_usage(metrics: dict[str, Any], least: float) -> None:
    for level in metrics["levels"]:
        if level["usage"] < least:
            raise GateError(
                f"level {level['level']} of the tokenizer uses {level['usage']:.1%} of its {level['size']} codes, "
                f"less than tokenizer.min_usage={least:g}: it has collapsed. Lower tokenizer.sizes, raise "
                "tokenizer.regulariser where the kind has one, or check that the embeddings differ between items"
            )
