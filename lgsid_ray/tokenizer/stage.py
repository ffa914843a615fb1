"""The tokenise stage: composite features and level 1, residual levels, SIDs for every item, the inverse table."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from lgsid_ray.arrays import Float32
from lgsid_ray.artifacts.schemas import INVERSE, SIDS
from lgsid_ray.config import RunConfig
from lgsid_ray.config.tokenizer import TokenizerConfig
from lgsid_ray.errors import ConfigError, GateError
from lgsid_ray.execution.storage import StageDir
from lgsid_ray.tokenizer.codec import Codebooks, sid_text
from lgsid_ray.tokenizer.features import Moments
from lgsid_ray.tokenizer.fit import kmeans, train_levels
from lgsid_ray.tokenizer.metrics import collision_metrics, collision_ranks, level_metrics
from lgsid_ray.tokenizer.pool import Pool, Shard, View

INVERSE_ROWS = 500_000


def tokenise(config: RunConfig, inputs: Mapping[str, StageDir], out: StageDir) -> dict[str, Any]:
    """SIDs for every item: `sids.parquet`, `inverse.parquet`, `codebooks.safetensors`, `metrics.json`, `history.json`.

    Codebooks are fitted to the training items and give tokens to all. To use every item of a catalogue, hold none out
    (catalogue.split). The driver holds the codebooks and, to rank collisions and to turn the table around, the items'
    tokens and keys (some 60 bytes an item).

    Raises:
        ConfigError: more clusters than training items. GateError: a codebook has collapsed.
    """
    settings = config.tokenizer
    vectors = inputs["embed_aligned" if settings.embeddings == "aligned" else "embed"]
    for leftover in ("sids.parquet", "inverse.parquet"):
        out.remove(leftover)
    pool = Pool(inputs["catalogue"], vectors, settings.features, config.seed, settings.kmeans.actors)
    try:
        require_items(settings, pool.trained)
        view, books, history = _fitted(pool, settings, config.seed, out)
        whole = View(False, view.moments, view.centroids, tuple(books.centres_))
        found = pool.map("tokens", whole)
        tokens = np.concatenate([part for part, _ in found])
        metrics = _metrics(pool, books, tokens, np.sum([energy for _, energy in found], axis=0))
        _require_usage(metrics, settings.min_usage)
        codes = _codes(tokens, settings.sizes)
        ranks = collision_ranks(codes)
        _write_sids(pool, tokens, ranks, settings.disambiguate, out)
    finally:
        pool.close()
    _write_inverse(codes, out)
    out.write_json("metrics.json", metrics)
    out.write_json("history.json", history)
    return {
        **{key: value for key, value in metrics.items() if key != "levels"},
        "perplexity": [round(level["perplexity"], 2) for level in metrics["levels"]],
        "usage": [round(level["usage"], 4) for level in metrics["levels"]],
    }


def _fitted(
    pool: Pool, config: TokenizerConfig, seed: int, out: StageDir
) -> tuple[View, Codebooks, list[dict[str, float]]]:
    """Fit, or take up the codebooks that an interrupted call has left whole."""
    features = config.method == "hgit"
    sums = np.sum(pool.map("moments")) if features else None
    if out.exists("codebooks.safetensors") and out.exists("fit-history.json"):
        books = Codebooks.load(out)
        return View(False, sums, books.centroids_), books, out.read_json("fit-history.json")
    first = View(features, sums)
    centroids = kmeans(pool, first, config.sizes[0], config.kmeans, seed, "level-1")
    level_1 = _embedding_means(pool, first, centroids) if features else centroids
    view = View(False, sums, centroids if features else None, (level_1,))
    later: list[Float32] = []
    for number, size in enumerate(config.sizes[1:], start=2):
        here = View(False, sums, view.centroids, (level_1, *later))
        later.append(kmeans(pool, here, size, config.kmeans, seed, f"level-{number}"))
    history: list[dict[str, float]] = []
    if features and later:
        later, history = train_levels(pool, view, later, config, seed)
    books = Codebooks(view.centroids, [level_1, *later])
    out.write_json("fit-history.json", history)
    books.save(out, {"method": config.method, "sizes": config.sizes, "embeddings": config.embeddings})
    return view, books, history


def _embedding_means(pool: Pool, view: View, centroids: Float32) -> Float32:
    """Level 1's centres: the mean of the members' embeddings; of no member, the mean of all."""
    parts = pool.map("embedding_sums", view, centroids)
    sums, counts = np.sum([s for s, _ in parts], axis=0), np.sum([c for _, c in parts], axis=0)
    overall = sums.sum(axis=0) / counts.sum()
    return np.where(counts[:, None] > 0, sums / np.maximum(counts, 1)[:, None], overall).astype(np.float32)


def _metrics(pool: Pool, books: Codebooks, tokens: np.ndarray, energy: np.ndarray) -> dict[str, Any]:
    total: Moments = np.sum(pool.map("embedding_moments"))
    variance = float(total.square.sum() - np.square(total.total).sum() / total.count)
    levels = []
    for level, centres in enumerate(books.centres_):
        counts = np.bincount(tokens[:, level], minlength=len(centres))
        relative = float(energy[level] / variance) if variance > 0 else 0.0
        levels.append({"level": level + 1, **level_metrics(counts), "relative_error": relative})
    return {
        **collision_metrics(_codes(tokens, [len(centres) for centres in books.centres_])),
        "reconstruction_error": float(energy[-1] / len(tokens)),
        "relative_error": levels[-1]["relative_error"],
        "levels": levels,
    }


def _codes(tokens: np.ndarray, sizes: list[int]) -> np.ndarray:
    """(n,) int64: the tokens of an item as one number, ascending in lexicographic order."""
    codes = np.zeros(len(tokens), dtype=np.int64)
    for level, size in enumerate(sizes):
        codes = codes * size + tokens[:, level]
    return codes


def _write_sids(pool: Pool, tokens: np.ndarray, ranks: np.ndarray, disambiguate: bool, out: StageDir) -> None:
    def write(shard: Shard, number: int, mine: np.ndarray, rank: np.ndarray) -> None:
        rows = zip(mine.tolist(), rank.tolist(), strict=True)
        columns = {
            "item_index": pa.array(np.arange(shard.start, shard.start + len(mine))),
            "item_id": shard.item_id,
            "tokens": _lists(mine),
            "collision": pa.array(rank, pa.int32()),
            "sid": pa.array([sid_text(row, place if disambiguate else 0) for row, place in rows]),
        }
        out.write_table(f"sids.parquet/part-{number:05d}.parquet", pa.table(columns).select(SIDS.names).cast(SIDS))

    jobs = [(number, tokens[start:stop], ranks[start:stop]) for number, (start, stop) in enumerate(pool.bounds)]
    pool.map_with(write, jobs)


def _write_inverse(codes: np.ndarray, out: StageDir) -> None:
    """The table SID -> items, ascending by tokens; some INVERSE_ROWS items at a time."""
    sids = out.read_table("sids.parquet", ["item_id", "tokens"])
    order = np.argsort(codes, kind="stable")
    starts = np.flatnonzero(np.r_[True, codes[order][1:] != codes[order][:-1]])
    ends = np.r_[starts[1:], len(order)]
    first = 0
    part = 0
    while first < len(starts):
        last = max(first + 1, int(np.searchsorted(ends, starts[first] + INVERSE_ROWS, side="right")))
        rows = order[starts[first] : ends[last - 1]]
        offsets = pa.array(np.r_[starts[first:last], ends[last - 1]] - starts[first], pa.int32())
        columns = [
            sids.column("tokens").take(pa.array(order[starts[first:last]])).combine_chunks(),
            pa.ListArray.from_arrays(offsets, pa.array(rows)),
            pa.ListArray.from_arrays(offsets, sids.column("item_id").take(pa.array(rows)).combine_chunks()),
        ]
        out.write_table(f"inverse.parquet/part-{part:05d}.parquet", pa.table(columns, INVERSE.names).cast(INVERSE))
        first, part = last, part + 1


def _lists(tokens: np.ndarray) -> pa.ListArray:
    offsets = pa.array(np.arange(0, tokens.size + 1, tokens.shape[1]), pa.int32())
    return pa.ListArray.from_arrays(offsets, pa.array(tokens.ravel(), pa.int32()))


def require_items(config: TokenizerConfig, items: int) -> None:
    """Refuse codebooks larger than the number of training items.

    Raises:
        ConfigError: sizes and number are named.
    """
    if max(config.sizes) > items:
        raise ConfigError(
            f"tokenizer.sizes {config.sizes}: {max(config.sizes)} clusters for {items} training items; "
            f"choose sizes of at most {items}"
        )


def _require_usage(metrics: dict[str, Any], least: float) -> None:
    for level in metrics["levels"]:
        if level["usage"] < least:
            raise GateError(
                f"level {level['level']} of the tokenizer uses {level['usage']:.1%} of its {level['size']} codes, "
                f"less than tokenizer.min_usage={least:g}: it has collapsed. Lower tokenizer.sizes, raise "
                "tokenizer.regulariser, or check that the embeddings differ between items"
            )
