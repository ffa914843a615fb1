"""Lists for many users, from Parquet to Parquet: parts of users stream through a pool of actors."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from lgsid_ray.arrays import Int64
from lgsid_ray.artifacts import Recommendations
from lgsid_ray.config.recommend import GenerateConfig
from lgsid_ray.errors import ConfigError
from lgsid_ray.execution.stage import Cell
from lgsid_ray.execution.storage import StageDir
from lgsid_ray.execution.stream import stream
from lgsid_ray.recommend.generators.recommender import ANYWHERE, Limit, Recommender

USERS = 1024
"""Of a part."""
REQUEST = "request.json"


@dataclass(frozen=True)
class Request:
    """What is asked of which generator."""

    cell: Cell
    """A finished one."""
    config: GenerateConfig
    seed: int
    count: int
    """Items of a list."""
    new: bool
    """Leave out what a user has visited."""
    limit: Limit = ANYWHERE

    def told(self, users: Int64) -> dict[str, Any]:
        """What makes two requests the same, as JSON values."""
        return {
            "cell": self.cell.out.uri,
            "count": self.count,
            "new": self.new,
            "limit": [self.limit.km, self.limit.point and list(self.limit.point), self.limit.city],
            "users": hashlib.sha256(users.tobytes()).hexdigest()[:16],
            "beams": self.config.beams,
        }


class _Lister:
    """An actor: loads the generator once, then makes the lists of a part of users at a time."""

    def __init__(self, request: Request, users: Int64, out: StageDir) -> None:
        torch.set_num_threads(1)  # the pool is the parallelism
        self._request, self._users, self._table = request, users, Recommendations(out)
        self._recommender: Recommender | None = None

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        request = self._request
        if self._recommender is None:  # not in the constructor: of what fails there Ray passes on the text alone
            self._recommender = Recommender.load(request.cell, request.config, request.seed)
        for start, users, name in zip(batch["start"], batch["users"], batch["name"], strict=True):
            some = self._users[start : start + users]
            found = self._recommender.lists(some, request.count, request.new, request.limit)
            self._table.write(found, str(name))
        return {"users": batch["users"]}


def write_lists(request: Request, users: Int64, out: StageDir, actors: int) -> Iterator[int]:
    """Write `Recommendations` of users by number into `out`, and yield the number of users as parts get done.

    Parts that stand are kept, so that a call that was killed is continued by the same call.

    Raises:
        ConfigError: `out` holds the lists of another request.
    """
    told = request.told(users)
    if out.exists(REQUEST) and out.read_json(REQUEST) != told:
        raise ConfigError(f"{out.root} holds the lists of another request; name another folder, or delete it")
    out.make().write_json(REQUEST, told)
    standing = out.members(Recommendations.name)
    units: list[dict[str, Any]] = [
        {"start": start, "users": min(USERS, len(users) - start), "name": f"part-{start:09d}.parquet"}
        for start in range(0, len(users), USERS)
    ]
    missing = [unit for unit in units if unit["name"] not in standing]
    yield sum(unit["users"] for unit in units) - sum(unit["users"] for unit in missing)
    if missing:
        for done in stream(_Lister, (request, users, out), missing, actors):
            yield int(done["users"])
