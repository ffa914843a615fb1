"""The synthetic world's users: where they live, what they like, and the clicks and impressions they leave.

A user chooses by distance decay, taste and an item's attraction, goes back to places, chains errands (the next place
lies near the last one, and some categories follow others), and now and then travels. With every click stand places
that were shown and not chosen. A metropolis is a function of (seed, metro) alone.
"""

import numpy as np
import pyarrow as pa

from lgsid_ray.arrays import Float64, Int64
from lgsid_ray.catalog.gazetteer import gazetteer
from lgsid_ray.catalog.world import LEAVES, Towns, scatter, town_items
from lgsid_ray.config.catalogue import WorldSource

DECAY_KM = 2.5
REPEAT, TRAVEL, ERRAND = 0.25, 0.05, 0.5
LIKED = 5
IMPRESSIONS = 4
START, SPAN_S = 1_700_000_000, 180 * 86_400
_KM_PER_DEGREE = 111.195


class Metro:
    """The items of one metropolis as arrays a user chooses from."""

    def __init__(self, towns: Towns, metro: int, seed: int) -> None:
        table = pa.concat_tables([town_items(towns, town, seed) for town in towns.of_metro(metro)])
        leaf = {name: number for number, (_, name, _) in enumerate(LEAVES)}
        self.item_id = table.column("item_id").to_numpy(zero_copy_only=False)
        self.leaf = np.array([leaf[name] for name in table.column("category_2").to_pylist()], dtype=np.int64)
        brands = table.column("brand").to_pylist()
        self.brand = np.unique([brand or "" for brand in brands], return_inverse=True)[1]
        self.branded = np.array([brand is not None for brand in brands])
        lat, lon = table.column("lat").to_numpy(), table.column("lon").to_numpy()
        # Kilometres on a plane: a metropolis is small, and only distances within it are asked for.
        self.origin = (float(lat.mean()), float(lon.mean())) if len(lat) else (0.0, 0.0)
        self.xy = self.plane(lat, lon)
        self.attraction = np.random.default_rng((seed, 4, metro)).lognormal(0, 0.8, len(table))

    def plane(self, lat: Float64, lon: Float64) -> Float64:
        """(n, 2) km east and north of the metropolis's middle."""
        east = (lon - self.origin[1]) * _KM_PER_DEGREE * np.cos(np.radians(self.origin[0]))
        return np.stack([east, (lat - self.origin[0]) * _KM_PER_DEGREE], axis=1)


def metro_users(source: WorldSource, towns: Towns) -> Int64:
    """How many users live in each metropolis, in proportion to its items; they add up to `source.users`."""
    items = np.bincount(towns.metro, weights=towns.items)
    edges = np.round(np.concatenate([[0.0], np.cumsum(items)]) / items.sum() * source.users).astype(np.int64)
    return np.diff(edges)


def metro_log(source: WorldSource, towns: Towns, metro: int, seed: int) -> pa.Table:
    """The log of one metropolis's users: user_id, item_id, timestamp (s), label (1 click, 0 impression)."""
    rng = np.random.default_rng((seed, 5, metro))
    count = int(metro_users(source, towns)[metro])
    home = Metro(towns, metro, seed)
    others = np.unique(towns.metro[towns.metro != metro])
    away = Metro(towns, int(rng.choice(others)), seed) if len(others) else home
    if not len(home.item_id):
        return _table([], [], [], [])
    follows = np.random.default_rng((seed, 6)).dirichlet(np.full(len(LEAVES), 0.15), size=len(LEAVES)) * len(LEAVES)
    users, items, times, labels = [], [], [], []
    members = towns.of_metro(metro)
    weights = towns.items[members] / towns.items[members].sum()
    places = gazetteer()
    for number in range(count):
        place = towns.place[rng.choice(members, p=weights)]
        lat, lon = scatter(places.lat[place], places.lon[place], rng, 1)
        shown = _visits(home, away, home.plane(lat, lon)[0], follows, source.events_per_user, rng)
        for clicked, rejected, moment in shown:
            rows = [clicked, *rejected]
            users += [f"m{metro:05d}-{number:06d}"] * len(rows)
            items += rows
            times += [moment] * len(rows)
            labels += [1.0] + [0.0] * len(rejected)
    return _table(users, items, times, labels)


def _visits(
    home: Metro,
    away: Metro,
    base: Float64,
    follows: Float64,
    mean: int,
    rng: np.random.Generator,
) -> list[tuple[str, list[str], int]]:
    """One user's clicks in order of time, each with what was shown beside it."""
    taste = np.full(len(LEAVES), 0.05)
    taste[rng.choice(len(LEAVES), LIKED, replace=False)] = rng.dirichlet(np.full(LIKED, 2.0)) * LIKED
    loyalty = rng.lognormal(0, 1.0, int(home.brand.max(initial=0)) + 1)
    times = np.sort(rng.integers(START, START + SPAN_S, size=max(1, rng.poisson(mean))))
    visits: list[tuple[str, list[str], int]] = []
    past: list[int] = []
    near_home = _nearness(home, base)
    for moment in times:
        if rng.random() < TRAVEL:
            chance, metro = away.attraction * taste[away.leaf], away
        else:
            last = past[-1] if past and rng.random() < ERRAND else None
            metro, chance = home, near_home if last is None else _nearness(home, home.xy[last])
            chance = chance * home.attraction * taste[home.leaf] * np.where(home.branded, loyalty[home.brand], 1.0)
            chance = chance if last is None else chance * follows[home.leaf[last], home.leaf]
        if metro is home and past and rng.random() < REPEAT:
            pick = past[rng.integers(len(past))]
        else:
            pick = _draw(chance, 1, rng)[0]
        shown = _draw(near_home * home.attraction if metro is home else away.attraction, IMPRESSIONS, rng)
        rejected = [str(metro.item_id[other]) for other in dict.fromkeys(shown) if other != pick]
        visits.append((str(metro.item_id[pick]), rejected, int(moment)))
        if metro is home:
            past.append(int(pick))
    return visits


def _nearness(metro: Metro, point: Float64) -> Float64:
    return np.exp(-np.linalg.norm(metro.xy - point, axis=1) / DECAY_KM)


def _draw(chance: Float64, size: int, rng: np.random.Generator) -> Int64:
    steps = np.cumsum(chance)
    return np.searchsorted(steps, rng.random(size) * steps[-1]).clip(max=len(steps) - 1)


def _table(users: list[str], items: list[str], times: list[int], labels: list[float]) -> pa.Table:
    return pa.table(
        {
            "user_id": pa.array(users, pa.string()),
            "item_id": pa.array(items, pa.string()),
            "timestamp": pa.array(times, pa.int64()),
            "label": pa.array(labels, pa.float64()),
        }
    )
