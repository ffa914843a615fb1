"""What G-DPO reads: triples, and the prompts and reference embeddings of the items in them."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from torch import Tensor

from lgsid_ray.arrays import Int64
from lgsid_ray.config.encoder import PromptConfig
from lgsid_ray.draws import random_bits
from lgsid_ray.encoder.prompts import full_prompts
from lgsid_ray.errors import InputError
from lgsid_ray.execution.storage import StageDir

LABELS = ("province", "city", "district")


@dataclass(frozen=True)
class Corpus:
    """Some items, in the order of their item_index.

    Attributes:
        index: (m,) item_index, ascending. prompts: m full prompts.
        reference: (m, dimension) float32 reference embeddings, read from the embedding table.
        places: (m, 3) codes of province, city and district, each within the one before.
    """

    index: Int64
    prompts: list[str]
    reference: Tensor
    places: Int64

    def rows(self, items: Int64) -> Int64:
        """Positions of item_index values; all must be in the corpus."""
        return np.searchsorted(self.index, items)


def read_triples(folder: StageDir) -> Int64:
    """(n, 3) item_index of anchor, i+ and i-.

    Raises:
        InputError: there are none.
    """
    table = folder.read_table("triples", ["anchor", "positive", "negative"])
    if not len(table):
        raise InputError("there are no preference triples; see the facts of stage prefer")
    return np.stack([table.column(name).to_numpy() for name in ("anchor", "positive", "negative")], axis=1)


def read_corpus(catalogue: StageDir, embeddings: StageDir, wanted: Int64, prompt: PromptConfig) -> Corpus:
    """Prompts, places and reference embeddings of the items `wanted`, read part by part.

    Raises:
        InputError: an item has no row in one of the tables.
    """
    wanted = np.unique(wanted)
    keep = pa.array(wanted)
    items = _select(catalogue, "items", keep)
    vectors = _select(embeddings, "embeddings", keep)
    index = items.column("item_index").to_numpy()
    if not (np.array_equal(index, wanted) and np.array_equal(vectors.column("item_index").to_numpy(), wanted)):
        raise InputError("items, embeddings and triples do not belong together: item_index differs")
    column = vectors.column("embedding").combine_chunks()
    matrix = np.asarray(column.flatten(), dtype=np.float32).reshape(len(vectors), -1)
    return Corpus(index, full_prompts(items, prompt), torch.from_numpy(matrix.copy()), _places(items))


def training_items(catalogue: StageDir) -> tuple[Int64, Int64]:
    """(n,) item_index of the training items, and (n,) a number for each one's city."""
    indices, cities = [], []
    for part in catalogue.parts("items"):
        table = catalogue.read_part(part, ["item_index", "split", "province", "city"])
        table = table.filter(pc.equal(table.column("split"), "train"))
        names = pc.binary_join_element_wise(table.column("province"), table.column("city"), "\x1f")
        cities.append(np.asarray(names.to_pylist(), dtype=object))
        indices.append(table.column("item_index").to_numpy())
    return np.concatenate(indices), np.unique(np.concatenate(cities).astype(str), return_inverse=True)[1]


def batch_rows(count: int, batch: int, step: int, seed: int) -> Int64:
    """(batch,) rows of the triples that make step `step`: every epoch a new seeded permutation, ranks take slices.

    A function of its arguments alone, so a resumed run draws what the undisturbed one draws.
    """
    places = np.arange(step * batch, (step + 1) * batch)
    rows = np.empty(batch, dtype=np.int64)
    for epoch in np.unique(places // count):
        here = places // count == epoch
        rows[here] = _order(count, seed, int(epoch))[places[here] % count]
    return rows


@lru_cache(maxsize=2)
def _order(count: int, seed: int, epoch: int) -> Int64:
    """The epoch's permutation; kept, since every step of the epoch asks for it."""
    return np.argsort(random_bits(seed, f"triples-{epoch}", np.arange(count)), kind="stable")


def _select(folder: StageDir, table: str, keep: pa.Array) -> pa.Table:
    found = []
    for part in folder.parts(table):
        rows = folder.read_part(part)
        found.append(rows.filter(pc.is_in(rows.column("item_index"), value_set=keep)))
    return pa.concat_tables(found)


def _places(items: pa.Table) -> Int64:
    """(m, 3) codes; a level's label counts together with those above it, since names recur."""
    codes, path = [], np.full(len(items), "", dtype=object)
    for level in LABELS:
        path = path + "\x1f" + np.asarray(items.column(level).to_pylist(), dtype=object)
        codes.append(np.unique(path.astype(str), return_inverse=True)[1])
    return np.stack(codes, axis=1)
