"""The command `explain`: what the SID of an item says, and which items are behind a SID."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from lgsid_ray.artifacts import Embeddings, Items, Sids, Trie
from lgsid_ray.artifacts.labels import LEVELS
from lgsid_ray.cli.options import console, latest, tell
from lgsid_ray.errors import ConfigError, InputError, StorageError
from lgsid_ray.evaluate.explain import Explanation, Prefix, explain
from lgsid_ray.evaluate.lookup import alike
from lgsid_ray.execution.run import Manifest, Run, results
from lgsid_ray.execution.storage import StageDir
from lgsid_ray.pipeline import tokenizer_stage
from lgsid_ray.tokenizer.codec import is_sid, parse_sid, sid_text

ALIKE = 5
"""Items that are proposed where one is unknown."""
BEHIND = 20
"""Items that are shown of those behind a SID."""


def explain_items(wanted: Sequence[str], out: str, tokenizer: str | None) -> None:
    """Print what a finished tokenise stage of the run directory `out` says of each item, and which are behind a SID."""
    run = latest(out)
    result = _tokenised(run, tokenizer)
    catalogue = Items(run.home.child(f"catalogue/{result.inputs['catalogue']}"))
    told = f"{result.stage}/{result.fingerprint}"
    stage = run.home.child(told)
    named = [one for one in dict.fromkeys(wanted) if not is_sid(one)]
    found = explain(catalogue, Sids(stage), Embeddings(_vectors(run.home, result)), named) if named else {}
    lacking = []
    for one in dict.fromkeys(wanted):
        if one in found:
            _print(found[one], told)
        elif one in named:
            lacking.append(_unknown(catalogue, one))
        else:
            _print_behind(one, stage, catalogue)
    if lacking:
        raise InputError("\n".join(lacking))


def _print_behind(sid: str, stage: StageDir, catalogue: Items) -> None:
    """Print the items whose SIDs begin with this one, the first by SID."""
    tokens, rank = parse_sid(sid)
    behind = Trie.load(stage).behind((*tokens, rank) if rank else tokens).astype(np.int64)
    shown = behind[:BEHIND]
    sids = Sids(stage).rows(shown, ["sid"]).column("sid").to_pylist()
    if not sids or not sids[0].startswith(sid):
        raise InputError(f"no item has the SID {sid!r}, nor one that begins with it, by {stage.path('sids.parquet')}")
    tell(f"{sid}: {len(behind):,} items" + (f", of which the first {BEHIND}" if len(behind) > BEHIND else ""))
    table = _table("SID", "item_id", "name", "category_1", "place", right=[])
    for column in table.columns[:2]:
        column.no_wrap = True  # to be copied
    fields = ["item_id", "name", "category_1", *LEVELS]
    for own, row in zip(sids, catalogue.rows(shown, fields).to_pylist(), strict=True):
        place = ", ".join(row[name] for name in reversed(LEVELS) if row[name])
        table.add_row(*(Text(text or "") for text in (own, row["item_id"], row["name"], row["category_1"], place)))
    console.print(table)


def _tokenised(run: Run, tokenizer: str | None) -> Manifest:
    """The latest result of a tokenizer, given as NAME or NAME/FINGERPRINT; first of all one with the run's settings."""
    name = f"tokenise/{tokenizer}" if tokenizer else tokenizer_stage(run.config)
    family, label, fingerprint = f"{name}/".split("/")[:3]
    found = [one for one in results(run.home, f"{family}/{label}") if fingerprint in ("", one.fingerprint)]
    if found:
        wanted = {"tokenizer": run.config.tokenizer.identity()}
        return max(found, key=lambda one: (one.config == wanted and one.seed == run.config.seed, one.finished))
    names = [one for one in sorted(run.home.members("tokenise")) if results(run.home, f"tokenise/{one}")]
    if not names:
        raise StorageError(f"{run.home.root} has no finished tokenise stage; run lgsid tokenise with --out {run.uri}")
    raise ConfigError(
        f"{run.home.root} has no finished {name}; name another with --tokenizer: {', '.join(names)}, "
        "or one of several results as NAME/FINGERPRINT"
    )


def _vectors(home: StageDir, result: Manifest) -> StageDir:
    """The embeddings that the tokenizer was given: a manifest knows their fingerprint, not their stage."""
    stages = [home.child(f"{stage}/{result.inputs['vectors']}") for stage in ("embed_aligned", "fuse", "embed")]
    return next((stage for stage in stages if stage.exists()), stages[-1])


def _unknown(items: Items, item_id: str) -> str:
    similar = alike(items, item_id, ALIKE)
    if not similar:
        return f"no item has the id {item_id!r}, nor a name like it; see the column item_id of {items.path}"
    lines = [f"  {row['item_id']}: {', '.join(filter(None, list(row.values())[1:]))}" for row in similar]
    return "\n".join([f"no item has the id {item_id!r}; most like it, by id or name, are", *lines])


def _print(told: Explanation, stage: str) -> None:
    item, subject = told.item, told.subject
    tell(f"{subject.item_id}: {item['name']}")
    tell(f"  {' · '.join(_fields(item))}")
    tell(f"  SID {subject.sid}, by {stage}")
    before = "the catalogue"
    for length, prefix in enumerate(told.prefixes, start=1):
        text = sid_text(subject.tokens[:length])
        tell(f"\n{text}: {_size(prefix, before)}")
        if prefix.said:
            console.print(_said(prefix))
        if prefix.siblings:
            console.print(_siblings(prefix))
        before = text
    tell("")


def _fields(item: dict[str, Any]) -> list[str]:
    place = ", ".join(item[name] for name in reversed(LEVELS) if item[name])
    point = "" if item["lat"] is None else f"{item['lat']:.4f}, {item['lon']:.4f}"
    price = "" if item["price"] is None else f"price {item['price']:g}"
    texts = [f"{name} {item[name]}" for name in ("brand", "category_1", "category_2") if item[name]]
    return [text for text in (place, point, *texts, price, f"split {item['split']}") if text]


def _size(prefix: Prefix, before: str) -> str:
    if prefix.items == 1:
        return f"no other item of the {prefix.of:,} of {before} shares it"
    far = "" if prefix.half_km is None else f", half of the others within {prefix.half_km:.1f} km"
    silent = "" if prefix.said or prefix.items == prefix.of else "; no word or label tells them from the rest"
    return f"{prefix.items:,} of the {prefix.of:,} items of {before} share it{far}{silent}"


def _said(prefix: Prefix) -> Table:
    table = _table("says", "", right=("here", "elsewhere", "z"))
    for one in prefix.said:
        table.add_row(one.field, Text(one.value), _share(one.inside), _share(one.outside), f"{one.z:.1f}")
    return table


def _share(share: float) -> str:
    return "<1%" if 0 < share < 0.005 else f"{share:.0%}"


def _siblings(prefix: Prefix) -> Table:
    located = prefix.half_km is not None
    table = _table("siblings", "", "", right=["km", "similarity"] if located else ["similarity"])
    for one in prefix.siblings:
        texts = [Text(str(one.item[name] or "")) for name in ("item_id", "name", "category_1")]
        table.add_row(*texts, *([] if one.km is None else [f"{one.km:.2f}"]), f"{one.similarity:.2f}")
    return table


def _table(*left: str, right: Sequence[str]) -> Table:
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for name in left:
        table.add_column(name)
    for name in right:
        table.add_column(name, justify="right")
    return table
