"""The stage that tells how far SIDs hang on chance: the tokenizer is fitted twice more, and its SIDs are compared."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from scipy.optimize import linear_sum_assignment

from lgsid_ray.arrays import AnyInt, Bool, Int64
from lgsid_ray.artifacts import Sids
from lgsid_ray.artifacts.items import trains
from lgsid_ray.artifacts.spans import Span, spans
from lgsid_ray.artifacts.table import matrix
from lgsid_ray.config import RunConfig
from lgsid_ray.config.tokenizer import TokenizerBase
from lgsid_ray.draws import random_bits, unit
from lgsid_ray.execution.stage import Facts, Inputs
from lgsid_ray.execution.storage import SCRATCH, StageDir
from lgsid_ray.tokenizer.encoding import encode_all
from lgsid_ray.tokenizer.stage import SPAN_ROWS, fitted
from lgsid_ray.tokenizer.tokenizer import Tokenizer

REPLACED = 0.01
"""Of the training items, the share that makes room for others."""


@dataclass(frozen=True)
class Given:
    """What a tokenizer gives all items.

    Attributes:
        read: (b, L) tokens a part at a time, in the order of items; anew at every call. sizes: codes of each level.
    """

    read: Callable[[], Iterable[AnyInt]]
    sizes: Sequence[int]


@dataclass(frozen=True)
class Replacing(Span):
    """A run of items some of which have left the training items, while others have joined them.

    Attributes:
        joining: share of the others that train in the place of those that left. seed: of the draws, one per item.
    """

    joining: float
    seed: int

    def read_items(self, columns: list[str]) -> pa.Table:
        """Their rows of the catalogue, `split` as it would be then."""
        items = super().read_items(columns)
        if "split" not in columns:
            return items
        split = np.where(self._train(trains(items)), "train", "held_random")
        return items.set_column(items.schema.get_field_index("split"), "split", pa.array(split))

    def _train(self, before: Bool) -> Bool:
        draw = unit(random_bits(self.seed, "stability/replaced", np.arange(self.start, self.stop)))
        return np.where(before, draw >= REPLACED, draw < self.joining)


def stability(config: RunConfig, inputs: Inputs, out: StageDir) -> Facts:
    """What share of the items another fit would give another SID: `metrics.json`.

    `another_seed`: the same items, the next seed. `replaced`: the same seed, a hundredth of the training items left out
    and as many of those held out taken in; where none are held out, the hundredth only leaves. Codes are compared under
    the names that suit them best (see `changed`), for a fit numbers its codes as it likes.
    """
    work = spans(inputs["catalogue"], inputs["vectors"], SPAN_ROWS)
    sids = Sids(inputs["tokenise"])
    sids.check(work[-1].stop)
    settings, seed = config.tokenizer, config.seed
    found = Given(
        lambda: (matrix(part.column("tokens")) for part in sids.scan(["tokens"])),
        Tokenizer.load(inputs["tokenise"]).sizes,
    )
    other = _fitted(settings, seed + 1, work, out.child(f"{SCRATCH}/another-seed"))
    later = _fitted(settings, seed, replacing(work, seed), out.child(f"{SCRATCH}/replaced"))
    metrics = {"another_seed": changed(found, other), "replaced": changed(found, later)}
    out.write_json("metrics.json", metrics)
    return {name: rows[-1]["changed"] for name, rows in metrics.items()}


def replacing(work: list[Span], seed: int) -> list[Span]:
    """The same runs of items, of which other items train."""
    training = sum(int(trains(span.read_items(["split"])).sum()) for span in work)
    joining = REPLACED * training / max(work[-1].stop - training, 1)
    return [Replacing(**vars(span), joining=joining, seed=seed) for span in work]


def changed(before: Given, after: Given) -> list[dict[str, Any]]:
    """Per prefix length, `changed`: the share of items that have another prefix after than before.

    Level by level the codes after are renamed one to one, so that as many as can be of the items whose prefix stayed
    the same so far keep their code. Parts must hold the same items before and after; all are read once a level.
    """
    rows: list[dict[str, Any]] = []
    names: list[Int64] = []  # of each level so far: code after → code before, -1 for none
    for prefix, shape in enumerate(zip(before.sizes, after.sizes, strict=True), start=1):
        both, items = np.zeros(shape), 0
        for old, new in zip(before.read(), after.read(), strict=True):
            same = np.ones(len(old), dtype=bool)
            for level, name in enumerate(names):
                same &= name[new[:, level]] == old[:, level]
            np.add.at(both, (old[same, prefix - 1], new[same, prefix - 1]), 1)
            items += len(old)
        left, right = linear_sum_assignment(both, maximize=True)
        names.append(np.full(shape[1], -1))
        names[-1][right] = left
        rows.append({"prefix": prefix, "changed": float(1 - both[left, right].sum() / items)})
    return rows


def _fitted(config: TokenizerBase, seed: int, work: list[Span], out: StageDir) -> Given:
    """By a tokenizer that is fitted in `out`."""
    tokenizer = fitted(config, seed, work, out.make())
    encoded = encode_all(work, out, config.kmeans.actors, config.shares)[0]
    return Given(lambda: (encoded.read(span)[1] for span in range(len(encoded))), tokenizer.sizes)
