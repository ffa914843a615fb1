"""The stages around text fusion: embeddings of location texts, and items' embeddings with those put in."""

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch

from lgsid_ray.arrays import Float32, Float64, Int64
from lgsid_ray.artifacts import Embeddings, ItemLocations, Items, Locations, LocationTexts
from lgsid_ray.artifacts.embeddings import column, vectors
from lgsid_ray.artifacts.fusion import Fusion, unit
from lgsid_ray.artifacts.items import trains
from lgsid_ray.artifacts.spans import Span, spans
from lgsid_ray.config import RunConfig
from lgsid_ray.config.encoder import PromptConfig
from lgsid_ray.draws import random_bits
from lgsid_ray.encoder.model import Encoder
from lgsid_ray.encoder.prompts import combine, full_prompts, location_prompts
from lgsid_ray.encoder.stage import run_units
from lgsid_ray.errors import InputError
from lgsid_ray.execution.stage import Facts, Inputs
from lgsid_ray.execution.storage import StageDir

SPAN_ROWS = 65_536
PROBED, K = 500, 5
"""Training items whose K neighbours tell what a weight costs."""
WEIGHTS = (0.0, *np.geomspace(0.02, 3.0, 25).tolist())
"""Among which `weight: auto` chooses; and between two of them in a straight line."""


def embed_location(config: RunConfig, inputs: Inputs, out: StageDir) -> Facts:
    """Embeddings of the distinct location texts, `locations/`, and which each item has, `item_locations/`.

    The driver holds the texts.
    """
    settings, items, texts = config.encoder, Items(inputs["catalogue"]), LocationTexts(out)
    distinct = _distinct(items, settings.prompt)
    texts.write(distinct)
    for number, table in enumerate(items.scan()):
        mine = pa.array(location_prompts(table, settings.prompt), pa.string())
        place = pc.index_in(mine, value_set=distinct.column("text").combine_chunks()).cast(pa.int64())
        columns = {"item_index": table.column("item_index"), "text": place}
        ItemLocations(out).write(pa.table(columns), f"part-{number:05d}.parquet")

    def work(encoder: Encoder, table: pa.Table) -> pa.Table:
        alone = table.column("text").to_pylist()
        embedded = encoder.encode(combine([""] * len(alone), alone, settings.prompt))
        return table.append_column("embedding", column(embedded))

    return run_units(settings, texts, Locations(out), work)


def fuse(config: RunConfig, inputs: Inputs, out: StageDir) -> Facts:
    """Reference embeddings with location texts fused in: `embeddings/`, in item order, and `fusion.safetensors`.

    Whitening is fitted to the training items' location texts, the weight to what their neighbours mean; no label is
    read.

    Raises:
        InputError: no training item has a location text.
    """
    settings, located = config.fusion, inputs["embed_location"]
    texts = Locations(located).read() if Locations(located).exists() else Locations.schema.empty_table()
    trained = texts.column("training_items").to_numpy() > 0
    if not trained.any():
        raise InputError(
            "tokenizer.embeddings=fused: no training item has a location text (see encoder.prompt.location); set "
            "tokenizer.embeddings=origin"
        )
    work = spans(inputs["catalogue"], inputs["embed"], SPAN_ROWS)
    given = settings.weight if isinstance(settings.weight, float) else None
    fusion = Fusion.fitted(vectors(texts)[trained], given or 0.0)
    # A row more, of zeros: the last, which is what an item without a text has.
    directions = np.vstack([fusion.directions(vectors(texts)), np.zeros_like(fusion.mean)])
    of = ItemLocations(located).texts(work[-1].stop)
    facts: Facts = {"location_texts": len(texts), "fitted_to": int(trained.sum())}
    if given is None:
        probe = _probe(Items(inputs["catalogue"]).training(), config.seed)
        similarities = _similarities(work, directions, of, probe, Embeddings(inputs["embed"]).of(probe))
        fusion = replace(fusion, weight=weight_at(similarities / similarities[0], settings.floor))
    fusion.save(out)
    out.write_json("encoder.json", inputs["embed"].read_json("encoder.json"))
    for span in work:
        reference = span.read_embeddings()
        fused = unit(reference + np.float32(fusion.weight) * directions[of[span.start : span.stop]])
        table = span.read_items(["item_index", "item_id"]).append_column("embedding", column(fused))
        Embeddings(out).write(table, f"part-{span.start:012d}.parquet")
    return {**facts, "weight": fusion.weight, "rows": work[-1].stop}


def embed_fused(items: pa.Table, encoder: Encoder, fusion: Fusion, prompt: PromptConfig) -> Float32:
    """(n, d) fused embeddings of items, new ones too, by a run's fusion: what its tokenizer takes by default.

    Args:
        items: with the columns that the prompts name.
    """
    texts = location_prompts(items, prompt)
    told = np.full((len(items), encoder.dimension), np.nan, dtype=np.float32)
    some = [row for row, text in enumerate(texts) if text]
    if some:
        told[some] = encoder.encode(combine([""] * len(some), [texts[row] for row in some], prompt))
    return fusion(encoder.encode(full_prompts(items, prompt)), told)


def _probe(training: Int64, seed: int) -> Int64:
    """(≤ PROBED,) item_index, ascending, of some of the training items."""
    return np.sort(training[np.argsort(random_bits(seed, "fuse/probe", training))[:PROBED]])


def weight_at(kept: Float64, floor: float) -> float:
    """The weight of WEIGHTS, or between two of them, up to which the share `kept` of Similarity does not fall below."""
    below = np.flatnonzero(kept < floor)
    if not len(below):
        return WEIGHTS[-1]
    last = int(below[0]) - 1  # the first weight is none, and keeps all
    share = (kept[last] - floor) / (kept[last] - kept[last + 1])
    return float(WEIGHTS[last] + share * (WEIGHTS[last + 1] - WEIGHTS[last]))


def _similarities(work: list[Span], directions: Float32, of: Int64, probe: Int64, asked: Float32) -> Float64:
    """Per weight of WEIGHTS the mean cosine, in the reference space, of the probed items and what they find.

    Args:
        directions: (t, d) of location texts. of: (n,) which of them every item has.
        probe: (p,) item_index. asked: (p, d) their reference embeddings.
    """
    score = torch.full((len(WEIGHTS), len(probe), K), -torch.inf)
    cosine = torch.zeros_like(score)
    towards = directions[of[probe]]
    for span in work:
        reference, here = span.read_embeddings(), directions[of[span.start : span.stop]]
        alike = torch.tensor(asked) @ torch.tensor(reference).T
        mine = np.flatnonzero((probe >= span.start) & (probe < span.stop))
        for number, weight in enumerate(WEIGHTS):
            queries, corpus = (unit(e + np.float32(weight) * u) for e, u in ((asked, towards), (reference, here)))
            found = torch.from_numpy(queries) @ torch.from_numpy(corpus).T
            found[mine, probe[mine] - span.start] = -torch.inf
            values, place = found.topk(min(K, found.shape[1]))
            values = torch.cat([score[number], values], dim=1)
            cosines = torch.cat([cosine[number], alike.gather(1, place)], dim=1)
            score[number], best = values.topk(K)
            cosine[number] = cosines.gather(1, best)
    return np.asarray(cosine.mean(dim=(1, 2)).double())


def _distinct(items: Items, prompt: PromptConfig) -> pa.Table:
    """LocationTexts of a catalogue."""
    counted: pa.Table | None = None
    for table in items.scan():
        texts = pa.array(location_prompts(table, prompt), pa.string())
        fresh = pa.table({"text": texts, "items": np.ones(len(texts), np.int64), "training_items": trains(table) * 1})
        fresh = fresh.filter(pc.not_equal(texts, ""))
        counted = _summed(fresh if counted is None else pa.concat_tables([counted, fresh]))
    assert counted is not None, "a catalogue has a part"
    return counted


def _summed(counted: pa.Table) -> pa.Table:
    names = ["items", "training_items"]
    summed = counted.group_by("text", use_threads=False).aggregate([(name, "sum") for name in names])
    return summed.rename_columns({f"{name}_sum": name for name in names}).select(["text", *names]).sort_by("text")
