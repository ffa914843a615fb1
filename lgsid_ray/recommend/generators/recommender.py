"""A trained generator at work: what each user wants next, after all that the log knows of them."""

from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import torch
from torch import nn

from lgsid_ray.arrays import Int64
from lgsid_ray.artifacts import Items, Recommendations, Sids, Trie
from lgsid_ray.artifacts.table import conform
from lgsid_ray.config.recommend import GenerateConfig
from lgsid_ray.errors import StorageError
from lgsid_ray.execution.stage import Cell
from lgsid_ray.geo.distance import chord_to_km
from lgsid_ray.recommend import log as logs
from lgsid_ray.recommend.checkpoint import WEIGHTS, read_weights
from lgsid_ray.recommend.generators.batches import GenerateBatches
from lgsid_ray.recommend.generators.experiment import Generation, create, generated
from lgsid_ray.recommend.log import Unusable


@dataclass(frozen=True)
class Recommender:
    """Some 200 bytes an item and 50 an event, with what the model itself looks up."""

    user_ids: pa.Array
    """By user number."""
    item_ids: pa.Array
    """By item_index."""
    sids: pa.Array
    """(items,) text forms; null from a model that reads none."""
    generation: Generation
    """Its sequences end in an open event for every user."""
    model: nn.Module
    trie: Trie
    batches: GenerateBatches

    @classmethod
    def load(cls, cell: Cell, config: GenerateConfig, seed: int) -> "Recommender":
        """Of a finished cell: `cell.out` holds its weights, `config` and `seed` are those that it was trained with.

        Raises:
            StorageError: the weights are not of this model on these SIDs; or the cell was left out, for want of a log.
        """
        catalogue, tokenise = cell.inputs["catalogue"], cell.inputs.get("tokenise")
        try:
            found = Generation.read(config, catalogue, seed)
        except Unusable as reason:
            raise StorageError(f"{cell.out.root} holds no trained generator: {reason}") from None
        found = replace(found, sequences=found.sequences.continued())
        tokens = found.tokens(tokenise)
        model = create(cell.settings.model, tokens, config.history)
        try:
            model.load_state_dict(read_weights(cell.out, found.label(cell)))
        except RuntimeError as error:
            raise cell.out.corrupt(cell.out.path(WEIGHTS), error) from None
        if tokenise is None:
            trie, sids = Trie.build(tokens), pa.nulls(found.items, pa.string())
        else:
            trie, sids = Trie.load(tokenise), _column(Sids(tokenise).read(["item_index", "sid"]), "sid")
        item_ids = _column(Items(catalogue).read(["item_index", "item_id"]), "item_id")
        return cls(logs.users(catalogue), item_ids, sids, found, model.eval(), trie, found.batches([cell]))

    def positions(self, users: Int64) -> Int64:
        """(u,) the open events of users by number; -1 of those who have no history."""
        known = self.generation.sequences.user
        last = np.searchsorted(known, users, side="right") - 1
        return np.where((last >= 0) & (known[last] == users), last, -1)

    @torch.no_grad()
    def lists(self, users: Int64, count: int, new: bool) -> pa.Table:
        """`Recommendations` of users by number, up to `count` items for each; none for who has no history.

        Args:
            new: leave out what a user has visited.
        """
        positions = self.positions(users)
        users, positions = users[positions >= 0], positions[positions >= 0]
        beams = max(self.generation.config.beams, count)
        items, scores = generated(self.model, self.batches, positions, self.trie, beams, new)
        row, place = np.nonzero(items[:, :count] >= 0)
        chosen = items[row, place]
        table = {
            "user_id": self.user_ids.take(pa.array(users[row])),
            "rank": place + 1,
            "item_index": chosen,
            "item_id": self.item_ids.take(pa.array(chosen)),
            "sid": self.sids.take(pa.array(chosen)),
            "probability": np.exp(scores[row, place]),
            "km": self._km(positions[row], chosen),
            "visits": self._visits(positions[row], chosen),
        }
        return conform(pa.table(table), Recommendations.schema, Recommendations.name)

    def history(self, user: int, count: int) -> Int64:
        """item_index of the latest visits of a user by number, latest first, up to `count`."""
        position = self.positions(np.array([user]))
        latest = self.generation.sequences.histories(position[position >= 0], count).ravel()
        return latest[latest >= 0]

    def _km(self, positions: Int64, items: Int64) -> pa.Array:
        """(m,) kilometres of items from the latest place in front of each position; null without coordinates."""
        xyz = self.generation.xyz
        if xyz is None:
            return pa.nulls(len(items), pa.float64())
        last = self.generation.sequences.item[positions - 1]
        return pa.array(chord_to_km(np.linalg.norm(xyz[last] - xyz[items], axis=1)))

    def _visits(self, positions: Int64, items: Int64) -> Int64:
        """(m,) how often each item stands in front of its position, among the events of that user."""
        asked, which = np.unique(positions, return_inverse=True)
        row, held, _ = self.generation.sequences.before(asked, None)
        size = self.generation.items
        keys, times = np.unique(row * size + held, return_counts=True)
        place = np.minimum(np.searchsorted(keys, which * size + items), len(keys) - 1)
        return np.where(keys[place] == which * size + items, times[place], 0)


def _column(table: pa.Table, name: str) -> pa.Array:
    """A column in item order."""
    order = np.argsort(table.column("item_index").to_numpy(), kind="stable")
    return table.column(name).take(pa.array(order)).combine_chunks()
