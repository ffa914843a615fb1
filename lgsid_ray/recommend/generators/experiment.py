"""The generation experiment: which targets, which models, and how they are judged."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import numpy as np
from torch import nn

from lgsid_ray.arrays import Bool, Float64, Int64
from lgsid_ray.artifacts import Items, Sids, Trie
from lgsid_ray.artifacts.sids import unique_tokens
from lgsid_ray.config.recommend import GenerateConfig, Generator
from lgsid_ray.execution.stage import Cell
from lgsid_ray.execution.storage import StageDir
from lgsid_ray.recommend import log as logs
from lgsid_ray.recommend.batches import moved
from lgsid_ray.recommend.generators import baselines, beam
from lgsid_ray.recommend.generators.batches import GenerateBatches
from lgsid_ray.recommend.generators.registry import GENERATORS
from lgsid_ray.recommend.generators.sequences import Sequences, build, sample
from lgsid_ray.recommend.log import SPLITS, TEST, TRAIN, VALID, Log, Unusable
from lgsid_ray.recommend.metrics import hit_and_ndcg

KS = (5, 10)
QUERIES = 256
"""Histories decoded at once."""


@dataclass(frozen=True)
class Generation:
    """The sequences of a log, the same for every cell, and the catalogue they speak of."""

    config: GenerateConfig
    items: int
    xyz: Float64 | None
    """(items, 3) unit-sphere points of the items; None without coordinates."""
    sequences: Sequences
    seed: int

    @classmethod
    def read(cls, config: GenerateConfig, catalogue: StageDir, seed: int) -> "Generation":
        """From the catalogue stage, some 20 bytes an event.

        Raises:
            Unusable: there is nothing to learn or to judge; without time stamps no order is invented.
        """
        table = Items(catalogue)
        return cls.of(config, table.count(), table.xyz(), logs.read(catalogue), seed)

    @classmethod
    def of(cls, config: GenerateConfig, items: int, xyz: Float64 | None, log: Log, seed: int) -> "Generation":
        """From a log."""
        if not log.timed:
            raise Unusable("no time stamps: the interactions have no order to continue")
        sequences = build(log)
        for split in (TRAIN, VALID, TEST):
            if not len(sequences.of(split)):
                raise Unusable(
                    f"no user has a {SPLITS[split]} target with a history before it (three events a user are needed)"
                )
        return cls(config, items, xyz, sequences, seed)

    def members(self, cells: Sequence[Cell]) -> Mapping[str, Callable[[], nn.Module]]:
        """How to build each cell's model."""
        folders = {cell.inputs["tokenise"] for cell in cells}
        tokens = {folder: unique_tokens(*Sids(folder).tokens_and_ranks(self.items)) for folder in folders}
        history = self.config.history
        return {
            cell.name: partial(create, cell.settings.model, tokens[cell.inputs["tokenise"]], history) for cell in cells
        }

    def batches(self, cells: Sequence[Cell]) -> GenerateBatches:
        """With what any of the cells' models needs; validation on as many targets as are judged."""
        needs = frozenset().union(*(GENERATORS[cell.settings.model.kind].needs for cell in cells))
        train, valid = self.sequences.of(TRAIN), self.targets(VALID)
        return GenerateBatches(self.sequences, self.config.history, needs, train, valid)

    def targets(self, split: int) -> Int64:
        """Positions that are judged."""
        return sample(self.sequences.of(split), self.config.queries, self.seed)

    def judge(self, cell: Cell, model: nn.Module) -> dict[str, Any]:
        """Figures of the cell's trained model on valid and test, over the whole catalogue."""
        trie, batches = Trie.load(cell.inputs["tokenise"]), self.batches([cell])
        return {
            SPLITS[split]: self.figures(split, generated(model, batches, self.targets(split), trie, self.config.beams))
            for split in (VALID, TEST)
        }

    def baselines(self) -> dict[str, dict[str, Any]]:
        """Figures of the trivial recommenders over the same targets, by name."""
        found: dict[str, dict[str, Any]] = {}
        for split in (VALID, TEST):
            lists = baselines.recommend(self.sequences, self.targets(split), self.items, self.xyz, max(KS))
            for name, rows in lists.items():
                found.setdefault(name, {})[SPLITS[split]] = self.figures(split, rows)
        return found

    @cached_property
    def new(self) -> dict[int, Bool]:
        """Which targets of a split are new to their user."""
        return {split: self.sequences.is_new(self.targets(split)) for split in (VALID, TEST)}

    def figures(self, split: int, lists: Int64) -> dict[str, Any]:
        """Over all targets and over those new to their user (None where there are none)."""
        target, new = self.sequences.item[self.targets(split)], self.new[split]
        apart = hit_and_ndcg(lists[new], target[new], KS) if new.any() else None
        return {"all": hit_and_ndcg(lists, target, KS), "new": apart}


def create(model: Generator, tokens: Int64, history: int) -> nn.Module:
    """A generator of its kind over SIDs (items, L), unique per row."""
    generator: Any = GENERATORS[model.kind](tokens, history, model)
    return generator


def generated(model: nn.Module, batches: GenerateBatches, positions: Int64, trie: Trie, beams: int) -> Int64:
    """(q, max K) item_index by beam search, best first, -1 where the catalogue is smaller."""
    model.eval()
    device = next(model.parameters()).device
    lists = []
    for begin in range(0, len(positions), QUERIES):
        batch = moved(batches.batch(positions[begin : begin + QUERIES]), device)
        items, _ = beam.search(model, batch, trie, beams)  # type: ignore[arg-type]  # a Generator
        lists.append(items[:, : max(KS)])
    return np.concatenate(lists)
