"""A trained generator and the rules at work: what each user wants next, after all that the log knows of them."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from torch import nn

from lgsid_ray.arrays import Bool, Float64, Int64
from lgsid_ray.artifacts import Items, Recommendations, Sids, Trie
from lgsid_ray.artifacts.table import conform
from lgsid_ray.config.recommend import GenerateConfig
from lgsid_ray.errors import ConfigError, InputError, StorageError
from lgsid_ray.execution.stage import Cell
from lgsid_ray.geo.distance import chord_to_km, km_to_chord, unit_xyz
from lgsid_ray.recommend import log as logs
from lgsid_ray.recommend.checkpoint import WEIGHTS, read_weights
from lgsid_ray.recommend.generators import beam
from lgsid_ray.recommend.generators.baselines import Rules, Weights
from lgsid_ray.recommend.generators.batches import GenerateBatches
from lgsid_ray.recommend.generators.blend import Blend, among_found, mass
from lgsid_ray.recommend.generators.experiment import DISCOVERY, NEXT, Generation, create, generated
from lgsid_ray.recommend.log import NO_SPLIT, Unusable
from lgsid_ray.recommend.training import METRICS


@dataclass(frozen=True)
class Limit:
    """Where what is recommended may lie; what is None does not limit it."""

    km: float | None = None
    """At most so far from `point`."""
    point: tuple[float, float] | None = None
    """Latitude and longitude in degrees; None: the user's last place."""
    city: str | None = None

    def __bool__(self) -> bool:
        return self.km is not None or self.city is not None


ANYWHERE = Limit()


@dataclass(frozen=True)
class Recommender:
    """Some 200 bytes an item and 50 an event, with what the model itself looks up."""

    items: Items
    tokens: Int64
    """(items, L) what the model writes for each."""
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
    blend: Blend
    """Of the generator and the rules, for all items."""
    new: Blend
    """The same where what is visited is left out."""

    @classmethod
    def load(cls, cell: Cell, config: GenerateConfig, seed: int) -> "Recommender":
        """Of a finished cell: `cell.out` holds its weights, `config` and `seed` are those that it was trained with.

        Raises:
            StorageError: the weights are not of this model on these SIDs; or the cell was left out, for want of a log,
                or judged by an earlier version.
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
        rules = Rules(found.sequences, found.items, found.xyz, np.flatnonzero(found.sequences.split == NO_SPLIT))
        whole, new = _weights(cell)
        return cls(
            Items(catalogue),
            tokens,
            logs.users(catalogue),
            item_ids,
            sids,
            found,
            model.eval(),
            trie,
            found.batches([cell]),
            Blend(rules, whole, discovery=False),
            Blend(rules, new, discovery=True),
        )

    def positions(self, users: Int64) -> Int64:
        """(u,) the open events of users by number; -1 of those who have no history."""
        known = self.generation.sequences.user
        last = np.searchsorted(known, users, side="right") - 1
        return np.where((last >= 0) & (known[last] == users), last, -1)

    @torch.no_grad()
    def lists(self, users: Int64, count: int, new: bool, limit: Limit = ANYWHERE) -> pa.Table:
        """`Recommendations` of users by number, up to `count` items for each; none for who has no history.

        Args:
            new: leave out what a user has visited.

        Raises:
            ConfigError: the catalogue has no coordinates to limit kilometres by. InputError: nor a city of that name.
        """
        positions = self.positions(users)
        users, positions = users[positions >= 0], positions[positions >= 0]
        beams = max(self.generation.config.beams, count)
        listed = generated(self.model, self.batches, positions, self.trie, beams, new)
        if limit:
            items, chance = np.full((len(positions), count), -1), np.zeros((len(positions), count))
            for number, (position, found) in enumerate(zip(positions, mass(listed), strict=True)):
                items[number], chance[number] = self._within(position, found, beams, count, new, limit)
        else:
            items, chance = (self.new if new else self.blend).lists(positions, among_found(listed), count)
        row, place = np.nonzero(items >= 0)
        chosen = items[row, place]
        return self._table(
            chosen,
            user_id=self.user_ids.take(pa.array(users[row])),
            rank=place + 1,
            probability=chance[row, place],
            km=self._km(positions[row], chosen),
            visits=self._visits(positions[row], chosen),
        )

    def stranger(self, count: int, limit: Limit = ANYWHERE) -> pa.Table:
        """`Recommendations` of somebody of whom nothing is known, but perhaps where they are; `user_id` is null.

        Raises:
            ConfigError: kilometres without a point to count them from, or a catalogue without coordinates.
            InputError: no item is in the city.
        """
        inside = np.ones(self.generation.items, dtype=bool) if limit.city is None else self._in_city(limit.city)
        km = None if limit.point is None else chord_to_km(self._chord(unit_xyz(*limit.point)))
        if limit.km is not None:
            if km is None:
                raise ConfigError("nothing is known of this user's place: say where they are with --near")
            inside &= km <= limit.km
        items, chance = self.blend.rules.stranger(count, km, inside)
        return self._table(
            items,
            user_id=pa.nulls(len(items), pa.string()),
            rank=np.arange(1, len(items) + 1),
            probability=chance,
            km=pa.nulls(len(items), pa.float64()) if km is None else pa.array(km[items]),
            visits=np.zeros(len(items), dtype=np.int64),
        )

    def _table(self, items: Int64, **columns: Any) -> pa.Table:
        """`Recommendations` of what is recommended, and what is told of it."""
        named = {
            "item_index": items,
            "item_id": self.item_ids.take(pa.array(items)),
            "sid": self.sids.take(pa.array(items)),
        }
        return conform(pa.table(named | columns), Recommendations.schema, Recommendations.name)

    def _within(
        self, position: int, found: float, beams: int, count: int, new: bool, limit: Limit
    ) -> tuple[Int64, Float64]:
        """(count,) items within a limit, by a search over the trie of these alone, and their probabilities.

        Args:
            found: log-probability of what a search without the limit finds, which the blend takes for all there is.
        """
        row = np.array([position])
        inside = np.ones(self.generation.items, dtype=bool) if limit.city is None else self._in_city(limit.city)
        if limit.km is not None:
            last = int(self.generation.sequences.item[position - 1])
            inside &= self._chord(last if limit.point is None else unit_xyz(*limit.point)) <= km_to_chord(limit.km)
        if new:
            inside[self.generation.sequences.before(row, None)[1]] = False
        kept = np.flatnonzero(inside)
        if not len(kept):
            return np.full(count, -1), np.zeros(count)
        batch = replace(self.batches, discovery=new).batch(row)
        trie = Trie.build(self.tokens[kept], kept)
        listed, score = beam.search(self.model, batch, trie, beams)  # type: ignore[arg-type]  # a Generator
        items, chance = (self.new if new else self.blend).lists(row, (listed, score - found), count, inside)
        return items[0], chance[0]

    def _chord(self, centre: Float64 | int) -> Float64:
        """(items,) chords from a point, or from an item."""
        xyz = self.generation.xyz
        if xyz is None:
            raise ConfigError("the catalogue has no coordinates: nothing is within so many kilometres")
        return np.asarray(np.linalg.norm(xyz - (xyz[centre] if isinstance(centre, int) else centre), axis=1))

    def _in_city(self, city: str) -> Bool:
        """(items,) which are in a city."""
        parts = [table.column("city").to_numpy(zero_copy_only=False) == city for table in self.items.scan(["city"])]
        found = np.concatenate(parts)
        if not found.any():
            raise InputError(f"no item is in the city {city!r}; see the column city of {self.items.path}")
        return found

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


def _weights(cell: Cell) -> tuple[Weights, Weights]:
    """Of the blend for all items, and for those that are new; the same where no target of validation was new.

    Raises:
        StorageError: an earlier version of this package judged the cell.
    """
    measured = cell.out.read_json(METRICS)
    if "blend" not in measured:
        raise StorageError(f"{cell.out.root} is of an earlier version, without the rules; run `lgsid generate` again")
    fitted = measured["blend"]["weights"]
    return fitted[NEXT], fitted[DISCOVERY] or fitted[NEXT]


def _column(table: pa.Table, name: str) -> pa.Array:
    """A column in item order."""
    order = np.argsort(table.column("item_index").to_numpy(), kind="stable")
    return table.column(name).take(pa.array(order)).combine_chunks()
