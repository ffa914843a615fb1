"""Triples as they are read, the training items, and which of either make a step."""

from functools import lru_cache

import numpy as np
import pyarrow as pa

from lgsid_ray.arrays import Int64
from lgsid_ray.artifacts import Items, Triples
from lgsid_ray.artifacts.items import trains
from lgsid_ray.artifacts.labels import path_codes
from lgsid_ray.draws import random_bits
from lgsid_ray.errors import InputError


def read_triples(triples: Triples) -> Int64:
    """(n, 3) item_index of anchor, i+ and i-: memory for `preference.triples` of them.

    Raises:
        InputError: there are none.
    """
    names = ["anchor", "positive", "negative"]
    table = triples.read(names)
    if not len(table):
        raise InputError("there are no preference triples; see the facts of stage prefer")
    return np.stack([table.column(name).to_numpy() for name in names], axis=1)


def training_cities(items: Items) -> tuple[Int64, Int64]:
    """(n,) item_index of the training items whose city is known, and (n,) a number for each one's city."""
    parts = items.scan(["item_index", "split", "province", "city"])
    table = pa.concat_tables([part.filter(pa.array(trains(part))) for part in parts])
    cities = path_codes(table, 2)[:, 1]
    known = cities >= 0
    return table.column("item_index").to_numpy()[known], cities[known]


def batch_rows(count: int, batch: int, step: int, seed: int) -> Int64:
    """(batch,) rows of the triples that make step `step`: every epoch a new seeded permutation, ranks take slices.

    A function of its arguments alone, so a resumed run draws what the undisturbed one draws.
    """
    drawn = np.arange(step * batch, (step + 1) * batch)
    rows = np.empty(batch, dtype=np.int64)
    for epoch in np.unique(drawn // count):
        here = drawn // count == epoch
        rows[here] = _order(count, seed, int(epoch))[drawn[here] % count]
    return rows


@lru_cache(maxsize=2)
def _order(count: int, seed: int, epoch: int) -> Int64:
    """The epoch's permutation; kept, since every step of the epoch asks for it."""
    return np.argsort(random_bits(seed, f"triples-{epoch}", np.arange(count)), kind="stable")
