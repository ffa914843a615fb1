"""The ranking experiment: which samples, which models with and without SIDs, and how they are judged."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import numpy as np
from torch import nn

from lgsid_ray.arrays import Bool, Float32, Float64, Int64
from lgsid_ray.artifacts import Items, Sids
from lgsid_ray.artifacts.keys import prefix_numbers
from lgsid_ray.config.recommend import RankConfig, Ranker
from lgsid_ray.draws import random_bits
from lgsid_ray.execution.stage import Cell
from lgsid_ray.execution.storage import StageDir
from lgsid_ray.recommend import log as logs
from lgsid_ray.recommend.checkpoint import label
from lgsid_ray.recommend.log import SPLITS, TEST, TRAIN, VALID, Log, Unusable
from lgsid_ray.recommend.rankers import baselines
from lgsid_ray.recommend.rankers import samples as sampling
from lgsid_ray.recommend.rankers.alike import Alike
from lgsid_ray.recommend.rankers.batches import RankBatches
from lgsid_ray.recommend.rankers.facts import Facts, Traits
from lgsid_ray.recommend.rankers.items import ItemEmbedding
from lgsid_ray.recommend.rankers.negatives import Negatives
from lgsid_ray.recommend.rankers.paired import write_scores
from lgsid_ray.recommend.rankers.registry import RANKERS
from lgsid_ray.recommend.rankers.samples import Samples
from lgsid_ray.recommend.rankers.scoring import CHUNK, figures, probabilities
from lgsid_ray.recommend.rankers.standardised import Standardised
from lgsid_ray.recommend.rankers.trees import Trees
from lgsid_ray.recommend.summary import Figures

_TAIL = 0.2


@dataclass(frozen=True)
class Spoken:
    """SIDs that a ranker reads."""

    tokens: Int64
    """(items, L)"""
    alike: Alike
    place: slice
    """Of its columns in `RankBatch.alike`."""


@dataclass(frozen=True)
class Ranking:
    """The samples of a log, the same for every cell, and the catalogue they speak of."""

    config: RankConfig
    items: int
    xyz: Float64 | None
    """(items, 3) unit-sphere points of the items; None without coordinates."""
    log: Log
    samples: Samples
    traits: Traits
    seed: int

    @classmethod
    def read(cls, config: RankConfig, catalogue: StageDir, seed: int) -> "Ranking":
        """From the catalogue stage, some 100 bytes a sample.

        Raises:
            Unusable: there is nothing to learn or to judge.
        """
        table = Items(catalogue)
        return cls.of(config, table.count(), table.xyz(), logs.read(catalogue), seed, Traits.read(table))

    @classmethod
    def of(
        cls,
        config: RankConfig,
        items: int,
        xyz: Float64 | None,
        log: Log,
        seed: int,
        traits: Traits | None = None,
    ) -> "Ranking":
        """From a log; drawn negatives included."""
        negatives = Negatives(items, xyz, config.negatives, config.near, config.neighbours)
        samples = sampling.build(log, negatives, threshold(config, log), seed)
        for split in (TRAIN, VALID, TEST):
            labels = samples.label[samples.of(split)]
            if len(labels) == 0 or labels.min() == labels.max():
                raise Unusable(
                    f"the {SPLITS[split]} split needs positives and negatives, it has {len(labels)} samples of one kind"
                )
        return cls(config, items, xyz, log, samples, traits or Traits.none(items), seed)

    def members(self, cells: Sequence[Cell]) -> Mapping[str, Callable[[], nn.Module]]:
        """How to build each cell's model: without SIDs where it reads no tokeniser."""
        found: dict[str, Callable[[], nn.Module]] = {}
        for cell in cells:
            spoken = self._spoken(cell)
            tokens, place = (spoken.tokens, spoken.place) if spoken else (None, None)
            found[cell.name] = partial(build, cell.settings.model, self.items, tokens, self.rare, place)
        return found

    def _spoken(self, cell: Cell) -> Spoken | None:
        """The SIDs that a cell's model reads, kept once they were read; None: it reads none."""
        folder, shuffled = cell.inputs.get("tokenise"), cell.settings.model.sids == "shuffled"
        if folder is None:
            return None
        known = self._known
        if (folder.uri, shuffled) not in known:
            tokens = Sids(folder).tokens(self.items)
            if shuffled:
                tokens = tokens[np.argsort(random_bits(0, "rank/shuffled", np.arange(self.items)))]
            alike = self.alike(tokens)
            begin = sum(one.alike.width for one in known.values())
            known[folder.uri, shuffled] = Spoken(tokens, alike, slice(begin, begin + alike.width))
        return known[folder.uri, shuffled]

    @cached_property
    def _known(self) -> dict[tuple[str, bool], Spoken]:
        """By the tokeniser's folder, and whether shuffled. Models remember their place: nothing leaves it again."""
        return {}

    def batches(self, cells: Sequence[Cell]) -> RankBatches:
        """With what any of the cells' models needs."""
        needs = frozenset().union(*(RANKERS[cell.settings.model.kind].needs for cell in cells))
        train, valid = self.samples.of(TRAIN), self.samples.of(VALID)
        lengths = self.config.history, self.config.long
        for cell in cells:
            self._spoken(cell)
        matched = [spoken.alike for spoken in self._known.values()]
        return RankBatches(self.samples, self.facts, matched, self.xyz, *lengths, self.seed, needs, train, valid)

    def alike(self, tokens: Int64) -> Alike:
        """What rankers that read these SIDs, (items, L), are told of a sample beside facts."""
        return Alike(self.samples, tokens, self.config.history, self.seed)

    @cached_property
    def facts(self) -> Facts:
        """What every ranker is told of a sample."""
        return Facts(self.samples, self.xyz, self.traits, self.config.history, self.seed)

    def label(self, cell: Cell) -> dict[str, str]:
        """What the cell's weights are of."""
        tokenise = cell.inputs.get("tokenise")
        return label(cell.settings.model, Sids(tokenise).tokens(self.items) if tokenise else None)

    def judge(self, cell: Cell, model: nn.Module) -> dict[str, Any]:
        """Figures of the cell's trained model on valid and test; what it gives test samples is kept in its folder."""
        batches = self.batches([cell])
        scores = {split: probabilities(model, batches, self.samples.of(split)) for split in (VALID, TEST)}
        write_scores(cell.out, scores[TEST])
        return {SPLITS[split]: self.figures(split, score, calibrated=True) for split, score in scores.items()}

    def baselines(self, tokens: Int64 | None = None) -> dict[str, dict[str, Figures]]:
        """Figures of the trivial rankers and of boosted trees on valid and test, by name.

        Args:
            tokens: (items, L) SIDs: there are trees then that know how they match, too.
        """
        found: dict[str, dict[str, Figures]] = {}
        for name, sids in (("trees", None), ("trees with SIDs", tokens)):
            if name == "trees" or sids is not None:
                train = self.samples.of(TRAIN)
                told = [self.facts, *([] if sids is None else [self.alike(sids)])]
                trees = Trees(_columns(told, train), self.samples.label[train], self.seed)
                for split in (VALID, TEST):
                    score = trees.probabilities(_columns(told, self.samples.of(split)))
                    found.setdefault(name, {})[SPLITS[split]] = self.figures(split, score, calibrated=True)
        for split in (VALID, TEST):
            rows = self.samples.of(split)
            scores = baselines.scores(self.samples, rows, self.items, self.xyz, self.config.history)
            for name, score in scores.items():
                figures = self.figures(split, score, calibrated=name == "popularity")
                found.setdefault(name, {})[SPLITS[split]] = figures
        return found

    @cached_property
    def cold(self) -> Bool:
        """(items,) which have at most `config.cold` positive training samples."""
        return self._clicks <= self.config.cold

    @property
    def rare(self) -> Bool:
        """(items,) which have at most `config.rare` of them, and share an ID embedding."""
        return self._clicks <= self.config.rare

    @cached_property
    def _clicks(self) -> Float64:
        train = self.samples.of(TRAIN)
        return np.bincount(self.samples.item[train], self.samples.label[train], self.items).astype(np.float64)

    def describe(self) -> dict[str, Any]:
        """What the log is and how its samples came about."""
        samples, kind = self.samples, self.log.kind
        drawn = "drawn: popular and near" if self.xyz is not None else "drawn: popular"
        return {
            "kind": kind,
            "timed": self.log.timed,
            "samples": {SPLITS[split]: len(samples.of(split)) for split in (TRAIN, VALID, TEST)},
            "positive_share": float(samples.label.mean()),
            "rating_threshold": threshold(self.config, self.log),
            "negatives": {"impressions": "logged, thinned", "visits": drawn, "ratings": "low ratings"}[kind],
            "cold_items": int(self.cold.sum()),
            "cold_test_samples": int(self.cold[samples.item[samples.of(TEST)]].sum()),
        }

    @cached_property
    def tail(self) -> Bool:
        """(items,) the long tail: the least clicked items, which together have a fifth of the training clicks."""
        order = np.argsort(self._clicks, kind="stable")
        found = np.zeros(self.items, dtype=bool)
        found[order[np.cumsum(self._clicks[order]) <= _TAIL * self._clicks.sum()]] = True
        return found

    def figures(self, split: int, score: Float64, calibrated: bool) -> Figures:
        rows = self.samples.of(split)
        target = self.samples.item[rows]
        slices = {"cold": self.cold[target], "new": self.samples.new(rows), "tail": self.tail[target]}
        return figures(self.samples, rows, score, slices, calibrated)


def threshold(config: RankConfig, log: Log) -> float | None:
    """From which rating on a label is positive; None for logs without ratings."""
    if log.kind != "ratings":
        return None
    return sampling.rating_threshold(log) if config.rating_threshold is None else config.rating_threshold


def build(
    model: Ranker, items: int, tokens: Int64 | None, rare: Bool | None = None, alike: slice | None = None
) -> nn.Module:
    """A ranker of its kind on `items` items, whose SIDs (items, L) it sees if they are given.

    Args:
        rare: (items,) which share an ID embedding.
        alike: where the numbers of these SIDs stand in a batch.
    """
    if tokens is not None and model.sids == "ngrams":
        tokens = prefix_numbers(tokens)
    embedding = ItemEmbedding(items, model.dimension, tokens, rare, model.id_dropout, alike)
    ranker: Any = RANKERS[model.kind](embedding, model)
    return ranker


def _columns(told: Sequence[Standardised], rows: Int64) -> Float32:
    """(b, F) of samples, a chunk at a time."""
    parts = [rows[begin : begin + CHUNK] for begin in range(0, len(rows), CHUNK)]
    return np.concatenate([np.column_stack([each.of(part) for each in told]) for part in parts])
