"""What tells a group of items from those around it: words of their names, and what their other fields say.

The measure is the log-odds ratio under an informative Dirichlet prior, in standard errors (Monroe, Colaresi & Quinn
2008, "Fightin' Words", Political Analysis 16(4)): what is rare must be seen more often to count.
"""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lgsid_ray.arrays import Float64, Int64
from lgsid_ray.artifacts import Items
from lgsid_ray.artifacts.labels import LEVELS, SEPARATOR, label_paths

COLUMNS = ("name", "brand", "category_1", "category_2", *LEVELS)
BETWEEN_WORDS = r"[^\p{L}\p{M}\p{N}]+"
LEAST = 2
"""What one item has alone is no trait of a group."""
ONE_IN_TWENTY = 1.645
"""Standard errors beyond which one normal deviate of twenty lies."""


@dataclass(frozen=True)
class Traits:
    """Which item has which trait.

    Attributes:
        row, trait: (m,) each pair once; a trait is its place in `names`.
        names: distinct, `field␟value`; a label's value is its path, since names recur.
    """

    row: Int64
    trait: Int64
    names: pa.Array

    def among(self, rows: Int64) -> Int64:
        """(traits,) how many of the distinct `rows` have each."""
        return np.bincount(self.trait[np.isin(self.row, rows)], minlength=len(self.names))


@dataclass(frozen=True)
class Background:
    """The traits of a whole catalogue: how many items have each that was asked for, and how many traits all have."""

    counts: Int64
    total: int
    items: int


def traits(items: pa.Table) -> Traits:
    """Of every row: the words of its name in lower case, its brand and categories as they stand, its label paths."""
    words = pc.split_pattern_regex(pc.utf8_lower(items.column("name").combine_chunks()), BETWEEN_WORDS)
    rows, names = [pc.list_parent_indices(words)], [_named("name", pc.list_flatten(words))]
    whole = {name: items.column(name) for name in ("brand", "category_1", "category_2")}
    whole |= {name: label_paths(items, depth) for depth, name in enumerate(LEVELS, start=1)}
    for name, values in whole.items():
        rows.append(pa.array(np.arange(len(items))))
        names.append(_named(name, values.combine_chunks()))
    row, coded = np.concatenate(rows), pa.concat_arrays(names).dictionary_encode()
    known = coded.is_valid().to_numpy(zero_copy_only=False)
    pairs = np.unique(row[known] * len(coded.dictionary) + coded.indices.drop_null().to_numpy())
    return Traits(*np.divmod(pairs, max(len(coded.dictionary), 1)), coded.dictionary)


def background(items: Items, names: pa.Array) -> Background:
    """How common each of the traits `names` is in the catalogue, read part by part."""
    counts, total, held = np.zeros(len(names), dtype=np.int64), 0, 0
    for table in items.scan(COLUMNS):
        found = traits(table)
        place = pc.index_in(found.names, value_set=names).fill_null(-1).to_numpy()[found.trait]
        counts += np.bincount(place[place >= 0], minlength=len(names))
        total, held = total + len(place), held + len(table)
    return Background(counts, total, held)


def log_odds(inside: Int64, around: Int64, held: int, total: int) -> Float64:
    """(traits,) z: how much likelier each is inside a group than among the others around it.

    The prior is how common the trait is around, and weighs as much as the group itself (α₀ = `held`).

    Args:
        inside, around: (traits,) how many items have each, of the group and of all that it is part of; around, above 0.
        held, total: how many traits, these and all others, the items of the group have, and those around.
    """
    prior = held / total * around
    seen, sizes = (inside + prior, around - inside + prior), (held, total - held)
    odds = [np.log(count / (size + held - count)) for count, size in zip(seen, sizes, strict=True)]
    return np.asarray((odds[0] - odds[1]) / np.sqrt(1 / seen[0] + 1 / seen[1]))


def telling(inside: Int64, around: Int64, of: int, total: int) -> tuple[Int64, Float64]:
    """The traits that tell a group from the others around it, most telling first, and their z.

    Of V traits that some two items of the group have, and not all around it, those beyond √(2 ln V) standard errors,
    which is where the largest of V normal deviates lies, and beyond one in twenty. So a large group that is drawn at
    random has hardly any, and one of a few items has one on average.

    Args:
        inside, around: (traits,) as above, all traits of the group among them. of: items around. total: their traits.
    """
    shared = np.flatnonzero((inside >= LEAST) & (around < of))
    z = log_odds(inside[shared], around[shared], int(inside.sum()), total)
    order = np.argsort(-z, kind="stable")
    best = order[z[order] >= max(ONE_IN_TWENTY, np.sqrt(2 * np.log(max(len(shared), 1))))]
    return shared[best], z[best]


def spelled(name: str) -> tuple[str, str]:
    """Field and value of a trait's name, of a path its last part."""
    return name.partition(SEPARATOR)[0], name.rpartition(SEPARATOR)[2]


def _named(field: str, values: pa.Array) -> pa.Array:
    """`field␟value`, null where there is no value."""
    return pc.binary_join_element_wise(field, pc.if_else(pc.equal(values, ""), None, values), SEPARATOR)
