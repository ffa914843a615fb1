"""The generation experiment: which targets, which models, and how they are judged."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any

import numpy as np
from torch import nn

from lgsid_ray.arrays import Bool, Float32, Float64, Int64
from lgsid_ray.artifacts import Items, Sids, Trie
from lgsid_ray.artifacts.sids import unique_tokens
from lgsid_ray.config.recommend import GenerateConfig, Generator
from lgsid_ray.execution.stage import Cell
from lgsid_ray.execution.storage import StageDir
from lgsid_ray.geo.distance import chord_to_km
from lgsid_ray.recommend import log as logs
from lgsid_ray.recommend.batches import moved
from lgsid_ray.recommend.checkpoint import label
from lgsid_ray.recommend.generators import beam
from lgsid_ray.recommend.generators.baselines import Rules, Weights
from lgsid_ray.recommend.generators.batches import GenerateBatches
from lgsid_ray.recommend.generators.blend import Blend, Listed, among_found
from lgsid_ray.recommend.generators.candidates import Candidates
from lgsid_ray.recommend.generators.registry import GENERATORS
from lgsid_ray.recommend.generators.sequences import Sequences, build, sample
from lgsid_ray.recommend.log import SPLITS, TEST, TRAIN, VALID, Log, Unusable
from lgsid_ray.recommend.metrics import gain_figures, list_figures, target_ranks

KS, TOLD = (1, 5, 10, 20), 10
"""Lengths of lists that are judged, and the one whose figures have an interval."""
NEXT, DISCOVERY = "next", "discovery"
"""The tasks: what comes next, of all items; and, of targets new to their user, what the user has not visited yet."""
COLD, WITHIN_KM = 5, (1, 5, 20)
"""Targets with at most so many training visits are also judged apart; and distances that lists are told by."""
BEAMS = 5_000
"""Of all histories that are decoded at once."""
Figures = dict[str, float] | None


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
        """From the catalogue stage, some 30 bytes an event.

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
        folders = {cell.name: cell.inputs.get("tokenise") for cell in cells}
        tokens = {folder: self.tokens(folder) for folder in set(folders.values())}
        history = self.config.history
        return {cell.name: partial(create, cell.settings.model, tokens[folders[cell.name]], history) for cell in cells}

    def tokens(self, tokenise: StageDir | None) -> Int64:
        """(items, L) what a generator writes for each item, unique per row: its SID; without SIDs its number."""
        if tokenise is None:
            return np.arange(self.items)[:, None]
        return unique_tokens(*Sids(tokenise).tokens_and_ranks(self.items))

    def batches(self, cells: Sequence[Cell]) -> GenerateBatches:
        """With what any of the cells' models needs; validation on as many targets as are judged."""
        needs = frozenset().union(*(GENERATORS[cell.settings.model.kind].needs for cell in cells))
        train, valid = self.sequences.of(TRAIN), self.targets(VALID)
        candidates = self._candidates if "suggested" in needs else None
        return GenerateBatches(self.sequences, self.config.history, needs, train, valid, candidates)

    def targets(self, split: int) -> Int64:
        """Positions that are judged."""
        return sample(self.sequences.of(split), self.config.queries, self.seed)

    def queries(self, split: int, task: str) -> Int64:
        """Positions that are judged by a task; in discovery those new to their user."""
        targets = self.targets(split)
        return targets[self.sequences.is_new(targets)] if task == DISCOVERY else targets

    def judge(self, cell: Cell, model: nn.Module) -> dict[str, Any]:
        """Figures of the cell's trained model on valid and test by task, over the whole catalogue.

        `blend`: those of its mixture with the rules, and the weights, fitted on validation targets. `worth`: by how
        much it is ahead of the rules' own mixture, target by target.
        """
        tokenise, batches = cell.inputs.get("tokenise"), self.batches([cell])
        trie = Trie.load(tokenise) if tokenise else Trie.build(self.tokens(None))
        found: dict[str, Any] = {"blend": {"weights": {}}, "worth": {}}
        for task in (NEXT, DISCOVERY):
            discovery, blend = task == DISCOVERY, None
            for split in (VALID, TEST):
                name, queries = SPLITS[split], self.queries(split, task)
                listed = among_found(generated(model, batches, queries, trie, self.config.beams, discovery))
                if split == VALID:
                    blend = Blend.fit(self.rules, queries, listed, discovery)
                    found["blend"]["weights"][task] = blend and blend.weights
                told = self._compared(queries, listed, blend, self.mixtures[task])
                for part, figures in zip((found, found["blend"], found["worth"]), told, strict=True):
                    part.setdefault(name, {})[task] = figures
        return found

    def _compared(
        self, queries: Int64, listed: Listed, blend: Blend | None, mixture: Weights | None
    ) -> tuple[Figures, Figures, Figures]:
        """Figures of what a generator listed, of its blend with the rules, and how far this is ahead of their mixture.

        None where there is no query, or was no validation target to fit weights on.
        """
        alone = self.figures(queries, listed[0][:, : max(KS)])
        if blend is None or mixture is None or not len(queries):
            return alone, None, None
        lists, _ = blend.lists(queries, listed, max(KS))
        chances = self.rules.chances(queries, blend.discovery)
        counted, _ = self.rules.mixture(queries, chances, mixture, max(KS), blend.discovery)
        target = self.sequences.item[queries]
        return alone, self.figures(queries, lists), gain_figures(lists, counted, target, TOLD)

    def label(self, cell: Cell) -> dict[str, str]:
        """What the cell's weights are of."""
        return label(cell.settings.model, self.tokens(cell.inputs.get("tokenise")))

    def baselines(self) -> dict[str, dict[str, Any]]:
        """Figures of the rules that count over the same queries, by name."""
        found: dict[str, dict[str, Any]] = {}
        for task in (NEXT, DISCOVERY):
            discovery, weights = task == DISCOVERY, self.mixtures[task]
            for split in (VALID, TEST):
                queries = self.queries(split, task)
                chances = self.rules.chances(queries, discovery)
                lists = self.rules.lists(queries, chances, max(KS), discovery)
                if weights is not None:
                    lists["mixture"], _ = self.rules.mixture(queries, chances, weights, max(KS), discovery)
                for name, each in lists.items():
                    found.setdefault(name, {}).setdefault(SPLITS[split], {})[task] = self.figures(queries, each)
        return found

    @cached_property
    def rules(self) -> Rules:
        """Of the targets that are judged."""
        judged = np.concatenate([self.targets(VALID), self.targets(TEST)])
        return Rules(self.sequences, self.items, self.xyz, judged)

    @cached_property
    def mixtures(self) -> dict[str, Weights | None]:
        """Weights of the rules' mixture by task, fitted on validation targets."""
        found = {}
        for task in (NEXT, DISCOVERY):
            queries = self.queries(VALID, task)
            found[task] = self.rules.weights(queries, self.rules.chances(queries, task == DISCOVERY))
        return found

    @cached_property
    def _candidates(self) -> Candidates:
        return Candidates(self.sequences, self.items, self.xyz, self.config.history, self.seed)

    @cached_property
    def cold(self) -> Bool:
        """(items,) which have at most COLD training visits."""
        return np.bincount(self.sequences.training()[0], minlength=self.items) <= COLD

    def figures(self, queries: Int64, lists: Int64) -> Figures:
        """Of the (q, max K) lists given for the queries; None where there are none.

        `list_figures`; `hit@10_cold` of the targets that are cold, where there are any; and, with coordinates, which
        share of the ten best is `within_…km` of the last place.
        """
        if not len(queries):
            return None
        target = self.sequences.item[queries]
        found = list_figures(lists, target, KS, TOLD)
        if (cold := self.cold[target]).any():
            found[f"hit@{TOLD}_cold"] = float((target_ranks(lists[cold], target[cold]) < TOLD).mean())
        if self.xyz is not None:
            row, place = np.nonzero(lists[:, :TOLD] >= 0)
            last = self.sequences.item[queries[row] - 1]
            km = chord_to_km(np.linalg.norm(self.xyz[lists[row, place]] - self.xyz[last], axis=1))
            found |= {f"within_{limit}km": float((km <= limit).mean()) for limit in WITHIN_KM}
        return found


def create(model: Generator, tokens: Int64, history: int) -> nn.Module:
    """A generator of its kind over SIDs (items, L), unique per row."""
    generator: Any = GENERATORS[model.kind](tokens, history, model)
    return generator


def generated(
    model: nn.Module, batches: GenerateBatches, positions: Int64, trie: Trie, beams: int, discovery: bool
) -> tuple[Int64, Float32]:
    """(q, beams) item_index by beam search, best first, -1 where there are fewer, and their log-probabilities.

    In discovery none that the history holds.
    """
    model.eval()
    device = next(model.parameters()).device
    batches = replace(batches, discovery=discovery)
    parts = [(np.empty((0, beams), dtype=np.int64), np.empty((0, beams), dtype=np.float32))]
    step = max(1, BEAMS // beams)
    for begin in range(0, len(positions), step):
        some = positions[begin : begin + step]
        batch = moved(batches.batch(some), device)
        row, item, _ = batches.sequences.before(some, None)
        visited = (row, item) if discovery else None
        parts.append(beam.search(model, batch, trie, beams, visited))  # type: ignore[arg-type]  # a Generator
    items, scores = zip(*parts, strict=True)
    return np.concatenate(items), np.concatenate(scores)
