"""The card of a tokenizer: what it was fitted on, how good its codebooks are, what its first level looks like.

`card.md` is to be read; `card.json` holds what stands in no other file: where the embeddings come from, and all codes
of level 1, of which the card shows the largest.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from lgsid_ray.artifacts import Items
from lgsid_ray.artifacts.keys import unpack_sids
from lgsid_ray.config import RunConfig
from lgsid_ray.config.tokenizer import TokenizerBase
from lgsid_ray.execution.stage import Inputs
from lgsid_ray.execution.storage import StageDir
from lgsid_ray.tokenizer.codec import sid_text
from lgsid_ray.tokenizer.collisions import Crowd, bits
from lgsid_ray.tokenizer.markdown import one_line, table
from lgsid_ray.tokenizer.survey import Survey
from lgsid_ray.tokenizer.tokenizer import Tokenizer

MAPPED, WORST = 64, 10
"""Codes of level 1 that the card shows: the largest, and the worst."""

Row = Mapping[str, Any]


def write_card(
    config: RunConfig,
    inputs: Inputs,
    out: StageDir,
    tokenizer: Tokenizer,
    metrics: Row,
    level_1: Survey,
    held: Sequence[Counter[int]],
    fullest: Sequence[Crowd],
) -> None:
    """Write `card.md` and `card.json` of a tokenizer that gave all items SIDs with these metrics.

    Args:
        level_1: what stands behind its codes. held: per length of a prefix, {items: prefixes that have so many}.
        fullest: the SIDs with most items, in this order.
    """
    settings, sizes = config.tokenizer, tokenizer.sizes
    made = {"seed": config.seed, "splits": level_1.splits, **_embeddings(inputs["vectors"], tokenizer.dimension)}
    rows = code_rows(level_1)
    out.write_json("card.json", {"made_from": made, "level_1": rows})
    text = "\n\n".join(
        [
            f"# Tokenizer {settings.label}",
            _made_from(settings, tokenizer, made),
            f"## Settings\n\n{_settings(settings)}",
            f"## Codebooks\n\n{_codebooks(held, metrics)}",
            f"## SIDs\n\n{_sids(sizes, metrics, fullest[0])}",
            f"## Map of level 1\n\n{_map(rows)}",
            _widest(rows, tokenizer.levels[0].space)
            if level_1.places
            else _fullest(Items(inputs["catalogue"]), sizes, fullest),
        ]
    )
    with out.write("card.md") as file:
        file.write(f"{text}\n".encode())


def code_rows(found: Survey) -> list[dict[str, Any]]:
    """A row for each code, with the columns that the catalogue has; None where the code has no items."""
    rows: list[dict[str, Any]] = [{"code": code, "items": held} for code, held in enumerate(found.items.tolist())]
    if found.places is not None:
        columns = {name: getattr(found.places, name).tolist() for name in ("lat", "lon", "radius_km")}
        for row in rows:
            row |= {name: values[row["code"]] if row["items"] else None for name, values in columns.items()}
    for name, commonest in found.commonest.items():
        for row, value, share in zip(rows, commonest.value, commonest.share.tolist(), strict=True):
            row |= {name: value, f"{name}_share": share}
    return rows


def _embeddings(vectors: StageDir, dimension: int) -> dict[str, Any]:
    """Whose embeddings the tokenizer reads: stage, model and a digest of the prompt."""
    stage, encoder = vectors.read_json("manifest.json"), vectors.read_json("encoder.json")
    prompt = encoder["prompt"]
    return {
        "embeddings": {"embed_aligned": "aligned", "fuse": "fused"}.get(stage["stage"], "origin"),
        "stage": f"{stage['stage']}/{stage['fingerprint']}",
        "dimension": dimension,
        "model": encoder["model"] if encoder["kind"] == "hf" else encoder["kind"],
        "weights": encoder.get("weights"),
        "prompt_digest": hashlib.sha256(json.dumps(prompt, sort_keys=True).encode()).hexdigest()[:12],
        "prompt": prompt["separator"].join([*prompt["content"], *prompt["location"]]),
    }


def _made_from(settings: TokenizerBase, tokenizer: Tokenizer, made: Row) -> str:
    sizes, splits = tokenizer.sizes, dict(made["splits"])
    train, count = splits.pop("train", 0), sum(made["splits"].values())
    others = "".join(f", {part:,} {name}" for name, part in sorted(splits.items()))
    weights = f", weights {made['weights']}" if made["weights"] else ""
    told = {
        "kind": f"{settings.kind}, {len(sizes)} levels of {' × '.join(map(str, sizes))} codes",
        "level 1 compares": tokenizer.levels[0].space,
        "last level": "shared" if settings.shares else "chosen",
        "seed": str(made["seed"]),
        "catalogue": f"{count:,} items: {train:,} train (fitted to these alone){others}",
        "embeddings": f"{made['embeddings']} ({made['stage']}), {made['dimension']} dimensions",
        "model": f"{made['model']}{weights}",
        "prompt": f"`{made['prompt']}` (digest {made['prompt_digest']})",
    }
    return "\n".join(f"- {what}: {one_line(text)}" for what, text in told.items())


def _settings(settings: TokenizerBase) -> str:
    here, default = (dict(_flat(section.identity())) for section in (settings, type(settings).model_validate({})))
    rows = [(name, str(value), str(default[name])) for name, value in here.items() if value != default[name]]
    if not rows:
        return f"All as they are by default for {settings.kind}."
    return f"{table(['setting', 'here', 'by default'], rows)}\n\nAll others are as they are by default."


def _codebooks(held: Sequence[Counter[int]], metrics: Row) -> str:
    rows = []
    for row, prefixes in zip(metrics["levels"], held, strict=True):
        used, told = round(row["usage"] * row["size"]), bits(prefixes)
        figures = (f"{row['perplexity']:.1f}", f"{row['kl']:.3f}", f"{row['relative_error']:.3f}", f"{told:.2f}")
        rows.append((str(row["level"]), str(row["size"]), f"{row['usage']:.1%}", str(row["size"] - used), *figures))
    head = ["level", "size", "in use", "dead codes", "perplexity", "KL", "error left", "bits"]
    return (
        f"{table(head, rows)}\n\n"
        "Perplexity is how many codes the level's usage is worth, KL (nats) how far it is from even. Error left is\n"
        "what the prefix up to here leaves of the embeddings' variance. Bits is the entropy of that prefix: to tell\n"
        f"each item from all others takes log2({metrics['items']:,}) = {np.log2(metrics['items']):.2f}."
    )


def _sids(sizes: Sequence[int], metrics: Row, largest: Crowd) -> str:
    if metrics["distinct_sids"] == metrics["items"]:
        return f"{metrics['items']:,} items, each with a SID of its own."
    return (
        f"{metrics['distinct_sids']:,} SIDs for {metrics['items']:,} items: {metrics['collision_rate']:.1%} of the "
        f"items share theirs, and {metrics['sid_collision_rate']:.1%}\n"
        f"of the SIDs are shared. The largest, `{_text(largest, sizes)}`, has {largest.items:,} items."
    )


def _map(rows: Sequence[Row]) -> str:
    used = [row for row in rows if row["items"]]
    shown = sorted(used, key=lambda row: (-row["items"], row["code"]))[:MAPPED]
    which = "All codes in use" if len(shown) == len(used) else f"The {len(shown)} largest of {len(used):,} codes in use"
    told = "centre and median distance from it, " if "radius_km" in rows[0] else ""
    return f"{which}: items, {told}what most of them bear and its share.\n\n{_codes(shown)}"


def _widest(rows: Sequence[Row], space: str) -> str:
    used = [row for row in rows if row["items"]]
    shown = sorted(used, key=lambda row: (-row["radius_km"], row["code"]))[:WORST]
    meant = "" if space == "features" else "\nLevel 1 goes by content here, so some are meant to be wide."
    why = f"Worst are the codes whose items lie farthest from their centre (median).{meant}"
    return f"## The {len(shown)} widest codes of level 1\n\n{why}\n\n{_codes(shown)}"


def _fullest(items: Items, sizes: Sequence[int], fullest: Sequence[Crowd]) -> str:
    """The SIDs with most items: what is worst where nothing lies anywhere."""
    names = items.rows(np.array([crowd.first for crowd in fullest]), ["name"]).column("name").to_pylist()
    told = zip(fullest, names, strict=True)
    rows = [(f"`{_text(crowd, sizes)}`", f"{crowd.items:,}", name) for crowd, name in told]
    return (
        f"## The {len(rows)} fullest SIDs\n\nWorst are the SIDs with most items, since none has coordinates.\n\n"
        f"{table(['SID', 'items', 'for example'], rows)}"
    )


def _text(crowd: Crowd, sizes: Sequence[int]) -> str:
    return sid_text(unpack_sids(np.array([crowd.key]), sizes)[0].tolist())


def _codes(rows: Sequence[Row]) -> str:
    spelled = {
        "code": lambda value: f"`{sid_text([value])}`",
        "items": "{:,}".format,
        "lat": "{:.3f}".format,
        "lon": "{:.3f}".format,
        "radius_km": "{:.1f}".format,
        "city_share": "{:.0%}".format,
        "category_share": "{:.0%}".format,
    }
    names = list(rows[0])
    head = ["share" if name.endswith("_share") else name.replace("_", " ") for name in names]
    return table(head, [["–" if row[n] is None else spelled.get(n, str)(row[n]) for n in names] for row in rows])


def _flat(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value
