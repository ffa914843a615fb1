"""The stage `embed_probes`: texts that no catalogue holds, by the reference encoder and by the aligned one.

search    what somebody types, `evaluate.query`: a kind of item and a place, without the words that prompts put around
dropped   the prompt of an item without its place
renamed   prompts of whole districts, which have exchanged their names at random
"""

import numpy as np
import pyarrow as pa

from lgsid_ray.arrays import Bool, Int64
from lgsid_ray.artifacts import Items
from lgsid_ray.artifacts.embeddings import column
from lgsid_ray.artifacts.labels import LEVELS, path_codes
from lgsid_ray.artifacts.probes import DROPPED, RENAMED, SEARCH, Probes, ProbeVectors, kinds
from lgsid_ray.config import RunConfig
from lgsid_ray.config.encoder import PromptConfig
from lgsid_ray.draws import random_bits
from lgsid_ray.encoder.model import Encoder
from lgsid_ray.encoder.prompts import combine, content_only_prompts, full_prompts, location_prompts, query_prompts
from lgsid_ray.encoder.stage import run_units
from lgsid_ray.execution.stage import Facts, Inputs
from lgsid_ray.execution.storage import StageDir

ASKED = 150
"""Of each group: pairs of a kind and a district that are searched for, and items whose place is dropped."""
WHOLE = ("held_city", "held_place")
"""The splits that hold out whole districts; all other districts are a group too."""
RENAMED_ITEMS, A_DISTRICT = 600, 20
"""Items whose districts change names, about, and at most of one district."""
FEWEST = 6
"""Items of a district in which five others can be found."""


def embed_probes(config: RunConfig, inputs: Inputs, out: StageDir) -> Facts:
    """The texts, `probes/`, and their embeddings: `reference/vectors/` and `aligned/vectors/`.

    The driver reads the labels and categories of all items.
    """
    prompt = config.encoder.prompt
    items = Items(inputs["catalogue"]).read(["item_index", "category_1", "category_2", "split", *LEVELS])
    sought, dropped = pairs(items, config.seed), singles(items, config.seed)
    moved, names = renamed(items, config.seed)
    table = Items(inputs["catalogue"])
    asked, alone, other = table.rows(sought), table.rows(dropped), table.rows(moved)
    other = other.set_column(other.schema.get_field_index("district"), "district", pa.array(names, pa.string()))
    typed = query_prompts(search_texts(asked, config.evaluate.query), prompt)
    parts = [
        _part(SEARCH, sought, typed, location_prompts(asked, prompt)),
        _part(DROPPED, dropped, content_only_prompts(alone, prompt), [""] * len(alone)),
        _part(RENAMED, moved, full_prompts(other, prompt), location_prompts(other, prompt)),
    ]
    probes = Probes(out)
    whole = pa.concat_tables(parts)
    probes.write(whole.append_column("number", pa.array(np.arange(len(whole)))), "part-00000.parquet")
    for name, model in (("reference", None), ("aligned", inputs["align"].child("model"))):
        vectors = ProbeVectors(out.child(name).make())
        run_units(config.encoder, probes, vectors, lambda encoder, rows: _embedded(encoder, rows, prompt), model)
    return {SEARCH: len(sought), DROPPED: len(dropped), RENAMED: len(moved)}


def pairs(items: pa.Table, seed: int) -> Int64:
    """item_index, ascending: an item for each of some pairs of a kind and a district, at most ASKED of each group."""
    kind = kinds(items).combine_chunks().dictionary_encode().indices.fill_null(-1).to_numpy(zero_copy_only=False)
    district = path_codes(items)[:, -1]
    order = _drawn("probes/pairs", seed, items, (kind >= 0) & (district >= 0))
    first = np.unique(kind[order] * (district.max(initial=0) + 1) + district[order], return_index=True)[1]
    return _of_each_group(items, order[np.sort(first)])


def singles(items: pa.Table, seed: int) -> Int64:
    """item_index, ascending, of at most ASKED items of each group whose district is known."""
    return _of_each_group(items, _drawn("probes/singles", seed, items, path_codes(items)[:, -1] >= 0))


def renamed(items: pa.Table, seed: int) -> tuple[Int64, list[str]]:
    """item_index, ascending, of items of some whole districts, and the name that each one's district has instead.

    The districts pass their names on in a circle, so that each name stays the name of one of them.
    """
    district = path_codes(items)[:, -1]
    sizes = np.bincount(district[district >= 0], minlength=1)
    drawn = np.argsort(random_bits(seed, "probes/districts", np.arange(len(sizes))), kind="stable")
    drawn = drawn[sizes[drawn] >= FEWEST]
    drawn = drawn[np.cumsum(np.minimum(sizes[drawn], A_DISTRICT)) <= RENAMED_ITEMS]
    if len(drawn) < 2:
        return np.empty(0, dtype=np.int64), []
    order = _drawn("probes/renamed", seed, items, np.isin(district, drawn))
    place = np.argsort(district[order], kind="stable")
    begins = np.searchsorted(district[order][place], district[order][place])
    kept = np.sort(order[place[np.arange(len(place)) - begins < A_DISTRICT]])
    names = np.asarray(items.column("district").to_pylist(), dtype=object)
    name_of = {int(code): names[np.flatnonzero(district == code)[0]] for code in drawn}
    after = dict(zip(drawn.tolist(), np.roll(drawn, 1).tolist(), strict=True))
    return _index(items)[kept], [name_of[after[int(code)]] for code in district[kept]]


def search_texts(items: pa.Table, query: str) -> list[str]:
    """What somebody types who looks for items like these, by the template `evaluate.query`."""
    columns = {"kind": kinds(items).to_pylist()} | {name: items.column(name).to_pylist() for name in LEVELS}
    return [query.format(**dict(zip(columns, row, strict=True))) for row in zip(*columns.values(), strict=True)]


def _embedded(encoder: Encoder, rows: pa.Table, prompt: PromptConfig) -> pa.Table:
    alone = rows.column("location").to_pylist()
    located = encoder.encode(combine([""] * len(alone), alone, prompt))
    table = rows.select(["number"]).append_column("embedding", column(encoder.encode(rows.column("text").to_pylist())))
    return table.append_column("location", column(located))


def _part(probe: str, index: Int64, texts: list[str], locations: list[str]) -> pa.Table:
    said = {"probe": [probe] * len(index), "text": texts, "location": locations}
    strings = {name: pa.array(values, pa.string()) for name, values in said.items()}  # a probe may have no text at all
    return pa.table({"item_index": index, **strings})


def _of_each_group(items: pa.Table, order: Int64) -> Int64:
    """item_index, ascending, of the first ASKED rows of each group."""
    split = np.asarray(items.column("split").to_pylist())[order]
    groups = [split == name for name in WHOLE] + [~np.isin(split, WHOLE)]
    return np.sort(np.concatenate([_index(items)[order[group][:ASKED]] for group in groups]))


def _drawn(stream: str, seed: int, items: pa.Table, among: Bool) -> Int64:
    """Rows in a seeded order."""
    rows = np.flatnonzero(among)
    return rows[np.argsort(random_bits(seed, stream, _index(items)[rows]), kind="stable")]


def _index(items: pa.Table) -> Int64:
    return items.column("item_index").to_numpy()
