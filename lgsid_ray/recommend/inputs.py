"""What both kinds of recommender read from the stages before."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from lgsid_ray.arrays import Float64, Int64
from lgsid_ray.errors import StorageError
from lgsid_ray.execution.storage import StageDir
from lgsid_ray.geo.distance import unit_xyz
from lgsid_ray.recommend import log as logs


@dataclass(frozen=True)
class Items:
    """Where every item lies and what its SID is; row = item_index."""

    xyz: Float64
    """(n, 3) points on the unit sphere."""
    tokens: Int64
    """(n, L) SID tokens."""
    collision: Int64
    """(n,) rank among the items that share the tokens."""

    @property
    def unique_tokens(self) -> Int64:
        """(n, L) or (n, L + 1): the collision rank stands behind where any two items collide."""
        return np.column_stack([self.tokens, self.collision]) if self.collision.any() else self.tokens


def read_items(inputs: Mapping[str, StageDir]) -> Items:
    """Coordinates from the catalogue and tokens from the tokeniser, about 60 bytes an item.

    Raises:
        StorageError: the two tables do not hold the same items.
    """
    places = inputs["catalogue"].read_table("items", ["item_index", "lat", "lon"])
    tokenise = inputs["tokenise"]
    name = "sids.parquet" if tokenise.exists("sids.parquet") else "sids"
    sids = tokenise.read_table(name, ["item_index", "tokens", "collision"]).sort_by("item_index")
    index = sids.column("item_index").to_numpy()
    if not np.array_equal(index, np.arange(places.num_rows)):
        raise StorageError(
            f"{tokenise.path(name)} holds {len(index)} SIDs that are not one for each of the {places.num_rows} items "
            f"of {inputs['catalogue'].path('items')}; delete {tokenise.root} and run again"
        )
    order = np.argsort(places.column("item_index").to_numpy(), kind="stable")
    lat, lon = (places.column(axis).to_numpy()[order] for axis in ("lat", "lon"))
    flat = np.concatenate([chunk.flatten().to_numpy() for chunk in sids.column("tokens").chunks])
    tokens = flat.reshape(len(index), -1).astype(np.int64)
    return Items(unit_xyz(lat, lon), tokens, sids.column("collision").to_numpy().astype(np.int64))


def read_log(inputs: Mapping[str, StageDir]) -> logs.Log | None:
    """The interaction log, about 40 bytes an event; None where the catalogue came without one."""
    catalogue = inputs["catalogue"]
    if not catalogue.exists("interactions"):
        return None
    log = logs.read(catalogue.read_table("interactions", logs.COLUMNS))
    return log if len(log) else None
