"""A trained ranker at work: how likely users are to take items, after all that the log knows of them."""

from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from torch import nn

from lgsid_ray.arrays import Bool, Float64, Int64
from lgsid_ray.artifacts import Items
from lgsid_ray.config.recommend import RankConfig
from lgsid_ray.errors import StorageError
from lgsid_ray.execution.stage import Cell
from lgsid_ray.recommend import log as logs
from lgsid_ray.recommend.checkpoint import WEIGHTS, read_weights
from lgsid_ray.recommend.log import Unusable
from lgsid_ray.recommend.rankers import samples as sampling
from lgsid_ray.recommend.rankers.batches import RankBatches
from lgsid_ray.recommend.rankers.experiment import Ranking, threshold
from lgsid_ray.recommend.rankers.scoring import probabilities


@dataclass(frozen=True)
class Scorer:
    """Some 100 bytes a sample that the ranker was trained on, with what the model itself looks up."""

    user_ids: pa.Array
    """By user number."""
    item_ids: pa.Array
    """By item_index."""
    ranking: Ranking
    batches: RankBatches
    model: nn.Module

    @classmethod
    def load(cls, cell: Cell, config: RankConfig, seed: int) -> "Scorer":
        """Of a finished cell: `cell.out` holds its weights, `config` and `seed` are those that it was trained with.

        Raises:
            StorageError: the weights are not of this model on these SIDs; or the cell was left out, for want of a log.
        """
        catalogue = cell.inputs["catalogue"]
        try:
            ranking = Ranking.read(config, catalogue, seed)
        except Unusable as reason:
            raise StorageError(f"{cell.out.root} holds no trained ranker: {reason}") from None
        model = ranking.members([cell])[cell.name]()
        try:
            model.load_state_dict(read_weights(cell.out, ranking.label(cell)))
        except RuntimeError as error:
            raise cell.out.corrupt(cell.out.path(WEIGHTS), error) from None
        items = Items(catalogue).read(["item_index", "item_id"]).sort_by("item_index")
        ids = items.column("item_id").combine_chunks()
        return cls(logs.users(catalogue), ids, ranking, ranking.batches([cell]), model)

    def scores(self, users: pa.Array, items: pa.Array, time: Int64 | None) -> tuple[Float64, Bool]:
        """(n,) probabilities that users take items, by their IDs, and which users the log knows.

        A user whom the log does not know has no history. An item that the catalogue lacks has NaN.

        Args:
            time: (n,) Unix seconds; None: right after the log's latest event.
        """
        user, item = _numbers(self.user_ids, users), _numbers(self.item_ids, items)
        there = item >= 0
        ranking = self.ranking
        limit = threshold(ranking.config, ranking.log)
        when = None if time is None else time[there]
        samples = sampling.asked(ranking.log, limit, user[there].astype(np.int32), item[there], when)
        matched = [each.over(samples) for each in self.batches.matched]
        batches = replace(self.batches, samples=samples, told=self.batches.told.over(samples), matched=matched)
        found = np.full(len(item), np.nan)
        found[there] = probabilities(self.model, batches, np.arange(len(samples)))
        return found, user >= 0


def _numbers(ids: pa.Array, wanted: pa.Array) -> Int64:
    """The places of IDs, -1 where there is none."""
    found = pc.fill_null(pc.index_in(wanted.cast(ids.type), ids), -1)
    return found.to_numpy(zero_copy_only=False).astype(np.int64)
