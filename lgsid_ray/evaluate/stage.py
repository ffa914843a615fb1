"""The stages that judge: embeddings (`frontier`) and SIDs (`evaluate`)."""

from typing import Any

import pyarrow as pa

from lgsid_ray.artifacts import Frontier, Sids
from lgsid_ray.config import RunConfig
from lgsid_ray.evaluate.alignment import frontier_rows, gaps, lines, retrieval_tables, retrieve, sampled
from lgsid_ray.evaluate.sid_geography import sid_geography
from lgsid_ray.evaluate.sid_neighbours import sid_neighbours
from lgsid_ray.evaluate.space import draw_queries, read_corpus
from lgsid_ray.execution.stage import Facts, Inputs
from lgsid_ray.execution.storage import StageDir


def frontier(config: RunConfig, inputs: Inputs, out: StageDir) -> Facts:
    """Judge the embeddings of a run: `metrics.json`, `frontier.parquet` (docs/method.md, "How alignment is judged").

    Reads catalogue, embed and, where the run has them, embed_content, embed_location, fuse and embed_aligned. Memory:
    here labels and places, what the queries and a sample have, and what is found; in a task the embeddings of a part
    of the catalogue.
    """
    section, seed = config.evaluate, config.seed
    corpus, split = read_corpus(inputs)
    queries = draw_queries(split, section.queries, seed)
    retrieved = retrieve(corpus, queries, section.ks)
    found = lines(corpus, queries, retrieved)
    metrics: dict[str, Any] = {
        "seed": seed,
        "items": len(corpus),
        "located": corpus.xyz is not None,
        "floor": section.floor,
        "groups": {name: int(members.sum()) for name, members in queries.groups.items()},
        "retrieval": retrieval_tables(corpus, queries, retrieved, section.ks),
        **gaps(corpus, queries, retrieved, found, section.floor, seed),
        **sampled(corpus, queries, section, seed),
    }
    Frontier(out).write(pa.Table.from_pylist(frontier_rows(found, queries), schema=Frontier.schema))
    out.write_json("metrics.json", metrics)
    return _headline(metrics)


def evaluate(config: RunConfig, inputs: Inputs, out: StageDir) -> Facts:
    """Judge the SIDs of a run: `metrics.json`.

    Reads catalogue, tokenise, embed and, where the run has them, fuse and embed_aligned.
    """
    corpus, split = read_corpus(inputs)
    queries = draw_queries(split, config.evaluate.queries, config.seed)
    tokens = Sids(inputs["tokenise"]).tokens(len(corpus))
    metrics = {
        "sid_geography": sid_geography(tokens, corpus.labels, corpus.xyz),
        "sid_neighbours": sid_neighbours(tokens, corpus, queries.items[queries.groups["all"]]),
        "codebook": inputs["tokenise"].read_json("metrics.json"),
    }
    out.write_json("metrics.json", metrics)
    told: Facts = {"items": len(corpus)}
    for row in metrics["sid_geography"]:
        told[f"one_city/{row['prefix']}"] = row["one_city"]
    return told


def _headline(metrics: dict[str, Any]) -> Facts:
    facts: Facts = {"items": metrics["items"], "queries": metrics["groups"], "floor": metrics["floor"]}
    for group, found in metrics["frontier"].items():
        for arm, closed in found.get("gap_closed", {}).items():
            facts[f"gap_closed/{arm}/{group}"] = closed
    for group, found in metrics["saved"].items():
        for name, told in found.items():
            if name != "reason" and "kept" in told:
                facts |= {f"{name}/kept/{group}": told["kept"], f"{name}/gap_closed/{group}": told["saved"]}
    for row in metrics["retrieval"]:
        if row["group"] == "all":
            facts[f"{row['space']}/district@{row['k']}"] = row["district"]
            facts[f"{row['space']}/similarity@{row['k']}"] = row["similarity"]
    return facts
