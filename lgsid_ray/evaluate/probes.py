"""Three questions that retrieval by whole prompts does not ask: does free text find what it names, where is an item
thought to be that does not say so, and is it the names of places that are known, or the places?
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from lgsid_ray.arrays import Bool, Float32, Float64, Int64, Text
from lgsid_ray.artifacts import Items
from lgsid_ray.artifacts.embeddings import vectors
from lgsid_ray.artifacts.fusion import Fusion
from lgsid_ray.artifacts.probes import DROPPED, RENAMED, SEARCH, Probes, ProbeVectors, kinds
from lgsid_ray.artifacts.table import matrix
from lgsid_ray.config import RunConfig
from lgsid_ray.evaluate.frontiers import TEXT_WEIGHTS, Mixture, texts_of
from lgsid_ray.evaluate.gap import COVERED, draws
from lgsid_ray.evaluate.retrieval import NOBODY, Answers, Best, Finder, Found, Maker, answer, by_cosine, top_k
from lgsid_ray.evaluate.space import JUDGED, Corpus, Space, read_corpus
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

    def texts(self, labels: Int64) -> Space:
        """The texts as queries that are no items: each as a space's own encoder has it."""
        return Space(
            index=np.full(len(self.item), NOBODY),
            labels=labels[self.item],
            reference=self.reference,
            aligned=self.aligned,
            fused=self.reference,
        )


def probes(config: RunConfig, inputs: Inputs, out: StageDir) -> Facts:
    """What embeddings make of texts that no catalogue holds: `metrics.json`.

    Memory: as the frontier's, and a code for what each item is.
    """
    corpus, split = read_corpus(inputs)
    asked = _read(inputs["embed_probes"])
    kind = kinds(Items(inputs["catalogue"]).read(["category_1", "category_2"])).combine_chunks().dictionary_encode()
    fusion = Fusion.load(inputs["fuse"])
    metrics: dict[str, Any] = {
        "query": config.evaluate.query,
        SEARCH: searched(corpus, split, _codes(kind), asked[SEARCH], fusion, config.seed),
        DROPPED: dropped(corpus, split, asked[DROPPED]),
        RENAMED: renamed(corpus, asked[RENAMED], fusion),
    }
    out.write_json("metrics.json", metrics)
    return {f"found/{row['arm']}/{row['group']}": row["found"] for row in metrics[SEARCH]}


def searched(corpus: Corpus, split: Text, kind: Int64, asked: Asked, fusion: Fusion, seed: int) -> list[dict[str, Any]]:
    """Free text: of the five items found, the shares in the `district` asked for, of the `kind`, and of both.

    `found` is the latter beside as many as there are, five at most. Arms: `origin`, `fused` and `aligned` as they are
    saved; `text_fusion`, `whitened_fusion` and `content_fusion`, each with the weight that finds most in known
    districts, whatever it costs in meaning, and `mixed`, which is origin and aligned so weighed; `told`, whitened
    fusion whose queries say apart where they are meant, so that their place is put in too.
    """
    place, group = corpus.labels[:, -1], _groups(split[asked.item])
    there = np.array([((place == place[item]) & (kind == kind[item])).sum() for item in asked.item])

    def worth(found: Int64) -> dict[str, Float64]:
        near, alike = (of[found] == of[asked.item][:, None] for of in (place, kind))
        both = (near & alike).sum(axis=1) / np.minimum(there, K)
        return {"found": both, "district": near.mean(axis=1), "kind": alike.mean(axis=1)}

    rows: list[dict[str, Any]] = []
    makers = _saved(corpus) | _swept(corpus, asked, fusion)
    for arm, found in _found(corpus, asked, makers).items() if len(asked.item) else ():
        weights = WEIGHTS[: len(found.item)]  # what is saved has none but 0
        tried = [(weight, worth(items)) for weight, items in zip(weights, found.item, strict=True)]
        chosen = group == KNOWN if (group == KNOWN).any() else np.ones(len(group), dtype=bool)
        weight, values = max(tried, key=lambda one: one[1]["found"][chosen].mean())
        for name, mine in _each(group):
            drawn = draws(corpus.labels[asked.item[mine], 1 if name == "held_city" else 2], seed)
            means = drawn @ values["found"][mine] / drawn.sum(axis=1)
            told = {measure: float(value[mine].mean()) for measure, value in values.items()}
            row = {"arm": arm, "group": name, "queries": int(mine.sum()), "weight": weight, **told}
            rows.append(row | {"interval": np.percentile(means[1:], COVERED).tolist()})
    return rows


def dropped(corpus: Corpus, split: Text, asked: Asked) -> list[dict[str, Any]]:
    """Items whose prompt says no place: whether the whole item is among the five found, and the others' district."""
    rows: list[dict[str, Any]] = []
    for arm, retrieved in _found(corpus, asked, _saved(corpus)).items() if len(asked.item) else ():
        found = retrieved.item[0]
        own = found == asked.item[:, None]
        same = (corpus.labels[found, -1] == corpus.labels[asked.item, -1][:, None]) & ~own
        for name, mine in _each(_groups(split[asked.item])):
            told = {
                "itself": float(own[mine].any(axis=1).mean()),
                "district": float(same[mine].sum() / (~own[mine]).sum()),
            }
            rows.append({"arm": arm, "group": name, "queries": int(mine.sum()), **told})
    return rows


def renamed(corpus: Corpus, asked: Asked, fusion: Fusion) -> list[dict[str, Any]]:
    """Among the items of some districts: T@5 with each district's own name, and with another's."""
    if len(asked.item) <= K:
        return []
    district, order = corpus.labels[asked.item, -1], np.argsort(asked.item)
    named = corpus.of(asked.item[order], list(JUDGED.values()))
    rows: list[dict[str, Any]] = []
    for arm in corpus.judged:
        after = {"fused": fusion(asked.reference, asked.place), "aligned": asked.aligned}.get(arm, asked.reference)
        before = np.empty_like(after)
        before[order] = named.by(arm)
        both = {"own_names": before, "other_names": after}
        shares = {name: _one_district(embedded, district) for name, embedded in both.items()}
        rows.append({"arm": arm, "items": len(asked.item), **shares})
    return rows


def _one_district(embedded: Float32, district: Int64) -> float:
    """T@5 of (n, d) embeddings among themselves."""
    among = Space(np.arange(len(embedded)), district[:, None], embedded)
    (found,) = answer(among, among, {"": partial(by_cosine, space="origin", k=K)}, {"": K}).found.values()
    return float((district[found.item[0]] == district[:, None]).mean())


def _found(corpus: Corpus, asked: Asked, makers: Mapping[str, Maker]) -> Mapping[str, Found]:
    size = min(K, len(corpus))
    told: Answers = corpus.fold(answer, asked.texts(corpus.labels), makers, dict.fromkeys(makers, size))
    return told.found


def _saved(corpus: Corpus) -> dict[str, Maker]:
    return {name: partial(by_cosine, space=name, k=K) for name in corpus.judged}


def _swept(corpus: Corpus, asked: Asked, fusion: Fusion) -> dict[str, Maker]:
    texts = corpus.texts
    assert texts is not None, "what was fused had location texts"
    white = fusion.directions(texts.embedded)
    makers: dict[str, Maker] = {
        "text_fusion": partial(_with_texts, directions=texts.embedded),
        "whitened_fusion": partial(_with_texts, directions=white),
    }
    if "content" in corpus.spaces:
        makers["content_fusion"] = partial(_with_texts, directions=white, content=True)
    if "aligned" in corpus.spaces:
        makers["mixed"] = _between
    return makers | {"told": partial(_with_texts, directions=white, more=fusion.directions(asked.place))}


def _with_texts(
    items: Space, asked: Space, directions: Float32, content: bool = False, more: Float32 | None = None
) -> Finder:
    """By normalise(E_ref + w·the direction of the item's text), E_content beside it if asked for; w times (q, d) `more`
    is added to queries."""
    added = texts_of(items, directions)
    if content:
        assert items.content is not None
        added = added + items.content
    return _weighed(Mixture(items.reference, added), asked.reference, more)


def _between(items: Space, asked: Space) -> Finder:
    """By the reference space and the aligned one, mixed in items and queries."""
    mixture = Mixture(items.reference, items.by("aligned") - items.reference)
    return _weighed(mixture, asked.reference, asked.by("aligned") - asked.reference)


def _weighed(mixture: Mixture, query: Float32, more: Float32 | None) -> Finder:
    ours, beside = torch.from_numpy(query), None if more is None else torch.from_numpy(more)

    def find(rows: slice, cosines: Tensor) -> Iterator[Best]:
        products = mixture.products(ours[rows], None if beside is None else beside[rows], cosines)
        # Queries keep their length: it changes no order.
        yield from (top_k(mixture.scores(products, 1.0, weight), K) for weight in WEIGHTS)

    return find


def _read(folder: StageDir) -> dict[str, Asked]:
    table = Probes(folder).read(["probe", "item_index"])
    item, probe = table.column("item_index").to_numpy(), np.asarray(table.column("probe").to_pylist(), dtype=str)
    reference = aligned = place = np.empty((0, 1), dtype=np.float32)
    if len(table):  # of no texts there are no vectors
        tables = [ProbeVectors(folder.child(name)).read() for name in ("reference", "aligned")]
        (reference, aligned), place = map(vectors, tables), matrix(tables[0].column("location"))
    parts = (item, reference, aligned, place)
    return {name: Asked(*(part[probe == name] for part in parts)) for name in (SEARCH, DROPPED, RENAMED)}


def _groups(split: Text) -> Text:
    return np.where(np.isin(split, GROUPS[1:]), split, KNOWN)


def _each(group: Text) -> Iterator[tuple[str, Bool]]:
    """The groups that have queries, and which these are."""
    return ((name, group == name) for name in GROUPS if (group == name).any())


def _codes(kind: pa.DictionaryArray) -> Int64:
    """-1: unknown, which equals nothing: items of no kind are not asked for."""
    return kind.indices.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int64)
