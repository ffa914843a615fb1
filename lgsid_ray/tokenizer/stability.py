"""The stage that tells how far SIDs hang on chance: the tokenizer is fitted twice more, and its SIDs are compared."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from scipy.optimize import linear_sum_assignment

from lgsid_ray.arrays import AnyInt, Bool
from lgsid_ray.artifacts import Sids
from lgsid_ray.artifacts.items import trains
from lgsid_ray.artifacts.spans import Span, spans
from lgsid_ray.config import RunConfig
from lgsid_ray.config.tokenizer import TokenizerBase
from lgsid_ray.draws import random_bits, unit
from lgsid_ray.execution.stage import Facts, Inputs
from lgsid_ray.execution.storage import SCRATCH, StageDir
from lgsid_ray.tokenizer.encoding import encode_all
from lgsid_ray.tokenizer.stage import SPAN_ROWS, fitted

REPLACED = 0.01
"""Of the training items, the share that makes room for others."""


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
    tokens = Sids(inputs["tokenise"]).tokens(work[-1].stop)
    settings, seed = config.tokenizer, config.seed
    other = _tokens(settings, seed + 1, work, out.child(f"{SCRATCH}/another-seed"))
    later = _tokens(settings, seed, replacing(work, seed), out.child(f"{SCRATCH}/replaced"))
    metrics = {"another_seed": changed(tokens, other), "replaced": changed(tokens, later)}
    out.write_json("metrics.json", metrics)
    return {name: rows[-1]["changed"] for name, rows in metrics.items()}


def replacing(work: list[Span], seed: int) -> list[Span]:
    """The same runs of items, of which other items train."""
    training = sum(int(trains(span.read_items(["split"])).sum()) for span in work)
    joining = REPLACED * training / max(work[-1].stop - training, 1)
    return [Replacing(**vars(span), joining=joining, seed=seed) for span in work]


def changed(before: AnyInt, after: AnyInt) -> list[dict[str, Any]]:
    """Per prefix length, `changed`: the share of items that have another prefix, (n, L) tokens before and after.

    Level by level the codes after are renamed one to one, so that as many as can be of the items whose prefix stayed
    the same so far keep their code.
    """
    same, rows = np.ones(len(before), dtype=bool), []
    for prefix, (old, new) in enumerate(zip(before.T, after.T, strict=True), start=1):
        both = np.zeros((int(old.max()) + 1, int(new.max()) + 1))
        np.add.at(both, (old[same], new[same]), 1)
        name = np.full(both.shape[1], -1)
        left, right = linear_sum_assignment(both, maximize=True)
        name[right] = left
        same &= name[new] == old
        rows.append({"prefix": prefix, "changed": float(1 - same.mean())})
    return rows


def _tokens(config: TokenizerBase, seed: int, work: list[Span], out: StageDir) -> AnyInt:
    """All items' tokens by a tokenizer that is fitted in `out`."""
    fitted(config, seed, work, out.make())
    return encode_all(work, out, config.kmeans.actors, config.last_level == "shared")[0].tokens()
