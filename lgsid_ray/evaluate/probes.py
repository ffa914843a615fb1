"""Three questions that retrieval by whole prompts does not ask: does free text find what it names, where is an item
thought to be that does not say so, and is it the names of places that are known, or the places?
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import faiss
import numpy as np
import pyarrow as pa

from lgsid_ray.arrays import Bool, Float32, Float64, Int64, Text
from lgsid_ray.artifacts import Items
from lgsid_ray.artifacts.embeddings import vectors
from lgsid_ray.artifacts.fusion import Fusion, unit
from lgsid_ray.artifacts.probes import DROPPED, RENAMED, SEARCH, Probes, ProbeVectors, kinds
from lgsid_ray.artifacts.table import matrix
from lgsid_ray.config import RunConfig
from lgsid_ray.evaluate.alignment import spaces
from lgsid_ray.evaluate.frontiers import TEXT_WEIGHTS
from lgsid_ray.evaluate.gap import COVERED, draws
from lgsid_ray.evaluate.retrieval import search
from lgsid_ray.evaluate.space import Space, read_space
from lgsid_ray.execution.stage import Facts, Inputs
from lgsid_ray.execution.storage import StageDir

K = 5
WEIGHTS = (*TEXT_WEIGHTS, *np.geomspace(4.0, 100.0, 10).tolist())
"""Among which arms choose: the frontiers' end where meaning is lost, which no arm here is asked to keep."""
KNOWN, GROUPS = "known", ("known", "held_place", "held_city")
"""Queries about districts of which alignment saw items, and about districts and cities that were held out whole."""


@dataclass(frozen=True)
class Asked:
    """The rows of one probe.

    Attributes:
        item: (q,) item_index behind each text.
        reference, aligned: (q, d) embeddings of the texts. place: (q, d) of their locations, by the reference encoder.
    """

    item: Int64
    reference: Float32
    aligned: Float32
    place: Float32

    def by(self, arm: str) -> Float32:
        """The texts as a space's own encoder has them."""
        return self.aligned if arm == "aligned" else self.reference


@dataclass(frozen=True)
class Corpus:
    """What is searched, by cosine.

    Attributes:
        vectors: (n, d). query: (q, d). added: (n, d) of which w times is added to the vectors, for several w; None:
            nothing is. more: (q, d) of which as much is added to the queries.
    """

    name: str
    vectors: Float32
    query: Float32
    added: Float32 | None = None
    more: Float32 | None = None


def probes(config: RunConfig, inputs: Inputs, out: StageDir) -> Facts:
    """What embeddings make of texts that no catalogue holds: `metrics.json`.

    Memory: one float32 matrix per space, as the frontier.
    """
    space, split = read_space(inputs)
    asked = _read(inputs["embed_probes"])
    kind = kinds(Items(inputs["catalogue"]).read(["category_1", "category_2"])).combine_chunks().dictionary_encode()
    fusion = Fusion.load(inputs["fuse"])
    metrics: dict[str, Any] = {
        "query": config.evaluate.query,
        SEARCH: searched(space, split, _codes(kind), asked[SEARCH], fusion, config.seed),
        DROPPED: dropped(space, split, asked[DROPPED]),
        RENAMED: renamed(space, asked[RENAMED], fusion),
    }
    out.write_json("metrics.json", metrics)
    return {f"found/{row['arm']}/{row['group']}": row["found"] for row in metrics[SEARCH]}


def searched(space: Space, split: Text, kind: Int64, asked: Asked, fusion: Fusion, seed: int) -> list[dict[str, Any]]:
    """Free text: of the five items found, the shares in the `district` asked for, of the `kind`, and of both.

    `found` is the latter beside as many as there are, five at most. Arms: `origin`, `fused` and `aligned` as they are
    saved; `text_fusion`, `whitened_fusion` and `content_fusion`, each with the weight that finds most in known
    districts, whatever it costs in meaning, and `mixed`, which is origin and aligned so weighed; `told`, whitened
    fusion whose queries say apart where they are meant, so that their place is put in too.
    """
    place, group = space.labels[:, -1], _groups(split[asked.item])
    there = np.array([((place == place[item]) & (kind == kind[item])).sum() for item in asked.item])

    def worth(found: Int64) -> dict[str, Float64]:
        near, alike = (of[found] == of[asked.item][:, None] for of in (place, kind))
        both = (near & alike).sum(axis=1) / np.minimum(there, K)
        return {"found": both, "district": near.mean(axis=1), "kind": alike.mean(axis=1)}

    rows: list[dict[str, Any]] = []
    for corpus in _corpora(space, asked, fusion) if len(asked.item) else ():
        tried = [(weight, worth(items)) for weight, items in _retrieved(corpus)]
        chosen = group == KNOWN if (group == KNOWN).any() else np.ones(len(group), dtype=bool)
        weight, values = max(tried, key=lambda one: one[1]["found"][chosen].mean())
        for name, mine in _each(group):
            drawn = draws(space.labels[asked.item[mine], 1 if name == "held_city" else 2], seed)
            means = drawn @ values["found"][mine] / drawn.sum(axis=1)
            told = {measure: float(value[mine].mean()) for measure, value in values.items()}
            row = {"arm": corpus.name, "group": name, "queries": int(mine.sum()), "weight": weight, **told}
            rows.append(row | {"interval": np.percentile(means[1:], COVERED).tolist()})
    return rows


def dropped(space: Space, split: Text, asked: Asked) -> list[dict[str, Any]]:
    """Items whose prompt says no place: whether the whole item is among the five found, and the others' district."""
    rows: list[dict[str, Any]] = []
    for arm, corpus in spaces(space).items() if len(asked.item) else ():
        found = _nearest(asked.by(arm), corpus)
        own = found == asked.item[:, None]
        same = (space.labels[found, -1] == space.labels[asked.item, -1][:, None]) & ~own
        for name, mine in _each(_groups(split[asked.item])):
            told = {
                "itself": float(own[mine].any(axis=1).mean()),
                "district": float(same[mine].sum() / (~own[mine]).sum()),
            }
            rows.append({"arm": arm, "group": name, "queries": int(mine.sum()), **told})
    return rows


def renamed(space: Space, asked: Asked, fusion: Fusion) -> list[dict[str, Any]]:
    """Among the items of some districts: T@5 with each district's own name, and with another's."""
    every, district = np.arange(len(asked.item)), space.labels[asked.item, -1]
    rows: list[dict[str, Any]] = []
    for arm, before in spaces(space).items() if len(every) > K else ():
        after = fusion(asked.reference, asked.place) if arm == "fused" else asked.by(arm)
        both = {"own_names": before[asked.item], "other_names": after}
        shares = {
            name: float((district[search(embedded, every, K)] == district[:, None]).mean())
            for name, embedded in both.items()
        }
        rows.append({"arm": arm, "items": len(every), **shares})
    return rows


def _corpora(space: Space, asked: Asked, fusion: Fusion) -> list[Corpus]:
    texts = space.texts
    assert texts is not None, "what was fused had location texts"
    plain, white = (
        np.where(texts.of[:, None] >= 0, directions[texts.of], np.float32(0))
        for directions in (texts.embedded, fusion.directions(texts.embedded))
    )
    query, reference = asked.reference, space.reference
    fusions = {"text_fusion": plain, "whitened_fusion": white}
    if space.content is not None and space.content.shape == white.shape:
        fusions["content_fusion"] = space.content + white
    saved = [Corpus(arm, vectors, asked.by(arm)) for arm, vectors in spaces(space).items()]
    swept = [Corpus(arm, reference, query, added) for arm, added in fusions.items()]
    if space.aligned is not None:
        swept.append(Corpus("mixed", reference, query, space.aligned - reference, asked.aligned - query))
    return [*saved, *swept, Corpus("told", reference, query, white, fusion.directions(asked.place))]


def _read(folder: StageDir) -> dict[str, Asked]:
    table = Probes(folder).read(["probe", "item_index"])
    item, probe = table.column("item_index").to_numpy(), np.asarray(table.column("probe").to_pylist(), dtype=str)
    reference = aligned = place = np.empty((0, 1), dtype=np.float32)
    if len(table):  # of no texts there are no vectors
        tables = [ProbeVectors(folder.child(name)).read() for name in ("reference", "aligned")]
        (reference, aligned), place = map(vectors, tables), matrix(tables[0].column("location"))
    parts = (item, reference, aligned, place)
    return {name: Asked(*(part[probe == name] for part in parts)) for name in (SEARCH, DROPPED, RENAMED)}


def _retrieved(corpus: Corpus) -> Iterator[tuple[float, Int64]]:
    """(weight, (q, K) items) for every weight there is to choose from."""
    if corpus.added is None:
        yield 0.0, _nearest(corpus.query, corpus.vectors)
        return
    for weight in map(np.float32, WEIGHTS):
        query = corpus.query if corpus.more is None else unit(corpus.query + weight * corpus.more)
        yield float(weight), _nearest(query, unit(corpus.vectors + weight * corpus.added))


def _nearest(queries: Float32, corpus: Float32) -> Int64:
    """(q, K) rows of the corpus by inner product, best first."""
    found: Int64 = faiss.knn(queries, corpus, min(K, len(corpus)), metric=faiss.METRIC_INNER_PRODUCT)[1]
    return found


def _groups(split: Text) -> Text:
    return np.where(np.isin(split, GROUPS[1:]), split, KNOWN)


def _each(group: Text) -> Iterator[tuple[str, Bool]]:
    """The groups that have queries, and which these are."""
    return ((name, group == name) for name in GROUPS if (group == name).any())


def _codes(kind: pa.DictionaryArray) -> Int64:
    """-1: unknown, which equals nothing: items of no kind are not asked for."""
    return kind.indices.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int64)
