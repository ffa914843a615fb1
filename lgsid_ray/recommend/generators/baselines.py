"""Rules that count, which every generator must beat: each by itself, and their mixture, fitted on validation targets.

A rule gives P(next item | history) by counts of training events, coordinates, and the history itself. They are the
honest bar: where visits repeat, transitions are few and places near, they reach most of what there is to reach.
"""

from functools import cached_property

import numpy as np
from scipy import sparse
from scipy.spatial import cKDTree

from lgsid_ray.arrays import AnyFloat, Bool, Float64, Int64
from lgsid_ray.geo.distance import chord_to_km
from lgsid_ray.recommend.generators.sequences import Sequences

NEAR = 100
"""Nearest items of a place among which near-and-popular divides its vote."""
WINDOW = 5
"""Events further apart than this do not co-occur."""
DEPTH = 50
"""Latest events of a history that vote, where not all or only the last do."""
SLOW, FAST = 0.95, 0.7
"""Weight of an event's vote, relative to that of the one after it."""
PRIOR = 0.1
"""Visits that every item is given in advance, so that those without any can be told."""
ROUNDS = 200
"""Of expectation maximisation; on few numbers, and it converges long before."""
_TIE = 1e-9  # weight of popularity where a rule calls two items equal; no two different chances are so close

Chances = dict[str, sparse.csr_matrix]
"""Rule → (q, items) P(next item | history); a row may be empty, where a rule has nothing to say."""
Weights = dict[str, float]
"""Of a mixture, by rule, `popularity` and `uniform` among them; they sum to 1."""


class Rules:
    """Counts of the training events, and what they say of some targets.

    Args:
        items: how many there are.
        xyz: (items, 3) unit-sphere points of the items; without them the rules of nearness are left out.
        targets: positions that will be asked for; only what their histories can ask is counted.
    """

    def __init__(self, sequences: Sequences, items: int, xyz: Float64 | None, targets: Int64) -> None:
        self._sequences, self._items = sequences, items
        seen, source, target = sequences.training()
        self.popular: Int64 = np.bincount(seen, minlength=items)
        self._by_popularity = np.argsort(-self.popular, kind="stable")
        self._share = (self.popular + PRIOR) / (len(seen) + PRIOR * items)
        asked = np.zeros(items, dtype=bool)
        asked[sequences.before(targets, DEPTH)[1]] = True
        self._asked = asked
        known = asked[source]
        self._follows = _counts(source[known], target[known], items)
        self._around = None if xyz is None else self._nearby(xyz)

    def lists(self, targets: Int64, chances: Chances, length: int, discovery: bool) -> dict[str, Int64]:
        """(q, length) item_index by rule, likeliest first; ties, and what a rule has no list for, go by popularity.

        -1 where a catalogue has fewer items.

        Args:
            discovery: leave out what the history holds; all targets are new to their users.
        """
        nothing = sparse.csr_matrix((len(targets), self._items))
        visited = self._visited(targets) if discovery else nothing
        return {
            name: self._best(chance, visited, length)[0] for name, chance in {"popularity": nothing, **chances}.items()
        }

    def mixture(
        self,
        targets: Int64,
        chances: Chances,
        weights: Weights,
        length: int,
        discovery: bool,
        inside: Bool | None = None,
    ) -> tuple[Int64, Float64]:
        """(q, length) item_index by the weighted sum of all chances, likeliest first, and these sums.

        Args:
            inside: (items,) which may be listed at all; None: all.
        """
        nothing = sparse.csr_matrix((len(targets), self._items))
        mixed = sum((weights[name] * chance for name, chance in chances.items() if name in weights), nothing)
        lists, chance = self._best(
            mixed, self._visited(targets) if discovery else nothing, length, weights["popularity"], inside
        )
        return lists, np.where(lists >= 0, chance + weights["uniform"] / self._items, 0.0)

    def stranger(self, length: int, km: Float64 | None, inside: Bool | None = None) -> tuple[Int64, Float64]:
        """(≤ length,) item_index for somebody without a history, likeliest first, and their probabilities.

        Shares of visits; near a point of visits per (1 + km), as `near_and_popular` has it.

        Args:
            km: (items,) from that point. inside: (items,) which may be listed at all; None: all.
        """
        vote = self._share if km is None else self._share / (1 + km)
        vote = vote if inside is None else vote * inside
        best: Int64 = np.argsort(-vote, kind="stable")[:length]
        best = best[vote[best] > 0]
        return best, vote[best] / max(vote.sum(), np.finfo(float).tiny)

    def weights(self, targets: Int64, chances: Chances) -> Weights | None:
        """The weights under which these targets are likeliest.

        None where there is no target. By expectation maximisation, which has one maximum here.
        """
        if not len(targets):
            return None
        item = self._sequences.item[targets]
        row = np.arange(len(item))
        columns = {name: np.asarray(chance[row, item]).ravel() for name, chance in chances.items()}
        columns |= {"popularity": self._share[item], "uniform": np.full(len(item), 1 / self._items)}
        given = np.column_stack(list(columns.values()))
        weight = np.full(given.shape[1], 1 / given.shape[1])
        for _ in range(ROUNDS):
            owed = given * weight
            weight = (owed / owed.sum(axis=1, keepdims=True)).mean(axis=0)
        return dict(zip(columns, weight.tolist(), strict=True))

    def chances(self, targets: Int64, discovery: bool) -> Chances:
        """What each rule says of the targets' histories; in discovery without what is visited, and sums to 1 anew.

        `own_history`: shares of its events; `own_recent`: of the latest ones. `markov`: what followed the last item;
        `transitions`: what followed the latest ones, Σ c(a, b) / √c(a) / (1 + age of a), with c(a) = Σ c(a, b).
        `co_occurrence`: likewise what stood up to WINDOW events from them, before or after; `companions`: the same by
        Σ c(a, b) / c(a) · SLOW^age, which asks the whole history. `near_and_popular`: visits per (1 + km) among the
        nearest of the last place; `near_history`: of all places of the history.
        """
        row, item, age = self._sequences.before(targets, None)

        def votes(weight: AnyFloat) -> sparse.csr_matrix:
            some = weight > 0
            pairs = (weight[some], (row[some], item[some]))
            return _chances(sparse.csr_matrix(pairs, shape=(len(targets), self._items)))

        late = age < DEPTH
        last, recent, slow = votes(1.0 * (age == 0)), votes(late / (1.0 + age)), votes(late * SLOW**age)
        found = {} if discovery else {"own_history": votes(np.ones(len(age))), "own_recent": votes(FAST**age)}
        found["markov"] = last @ _chances(self._follows)
        found |= {"transitions": recent @ _damped(self._follows), "co_occurrence": recent @ _damped(self._together)}
        found["companions"] = slow @ _chances(self._together)
        if self._around is not None:
            found |= {"near_and_popular": last @ self._around, "near_history": slow @ self._around}
        if discovery:
            visited = self._visited(targets)
            found = {name: chance - chance.multiply(visited) for name, chance in found.items()}
        return {name: _chances(chance) for name, chance in found.items()}

    @cached_property
    def _together(self) -> sparse.csr_matrix:
        """(items, items) how often two items stood up to WINDOW training events apart, for those that are asked."""
        total = sparse.csr_matrix((self._items, self._items))
        for pair in self._sequences.apart(WINDOW):
            earlier, later = (self._sequences.item[positions] for positions in pair)
            for source, target in ((earlier, later), (later, earlier)):
                known = self._asked[source]
                total = total + _counts(source[known], target[known], self._items)
        return total

    def _nearby(self, xyz: Float64) -> sparse.csr_matrix:
        """(items, items) P(item | near another) for those that are asked."""
        places, count = np.flatnonzero(self._asked), min(NEAR, self._items)
        chord, near = cKDTree(xyz).query(xyz[places], k=np.arange(1, count + 1))
        votes = (self.popular[near] + PRIOR) / (1 + chord_to_km(chord))
        shape = (self._items, self._items)
        return _chances(sparse.csr_matrix((votes.ravel(), (np.repeat(places, count), near.ravel())), shape))

    def _visited(self, targets: Int64) -> sparse.csr_matrix:
        """(q, items) 1 where the history holds an item."""
        row, item, _ = self._sequences.before(targets, None)
        found = _counts(row, item, self._items, len(targets))
        found.data[:] = 1
        return found

    def _best(
        self,
        score: sparse.csr_matrix,
        visited: sparse.csr_matrix,
        length: int,
        popularity: float = 0.0,
        inside: Bool | None = None,
    ) -> tuple[Int64, Float64]:
        """(q, length): the largest of score + `popularity` · share of visits, but for the visited ones; and these."""
        bonus = (popularity + _TIE) * self._share
        order = self._by_popularity if inside is None else self._by_popularity[inside[self._by_popularity]]
        lists, sums = np.full((score.shape[0], length), -1), np.zeros((score.shape[0], length))
        spent = np.zeros(self._items, dtype=bool)
        for row in range(len(lists)):
            out = visited.indices[visited.indptr[row] : visited.indptr[row + 1]]
            span = slice(score.indptr[row], score.indptr[row + 1])
            told, chance = score.indices[span], score.data[span]
            real = chance > 0 if inside is None else (chance > 0) & inside[told]
            told, chance = told[real], chance[real]
            spent[told] = spent[out] = True
            # The most popular of the rest: all others of it have the bonus alone, and less of it.
            head = order[: length + len(told) + len(out)]
            item = np.concatenate([told, head[~spent[head]][:length]])
            spent[told] = spent[out] = False
            total = bonus[item]
            total[: len(told)] += chance
            best = np.lexsort((item, -total))[:length]
            lists[row, : len(best)], sums[row, : len(best)] = item[best], total[best]
        return lists, sums


def _counts(row: Int64, column: Int64, items: int, rows: int | None = None) -> sparse.csr_matrix:
    """How often each pair occurs."""
    return sparse.csr_matrix((np.ones(len(row)), (row, column)), shape=(items if rows is None else rows, items))


def _damped(counts: sparse.csr_matrix) -> sparse.csr_matrix:
    """Rows by the roots of their sums: between counts, where what is frequent has all the say, and shares."""
    total = np.asarray(counts.sum(axis=1)).ravel()
    return sparse.csr_matrix(sparse.diags(1 / np.sqrt(np.where(total > 0, total, 1))) @ counts)


def _chances(counts: sparse.csr_matrix) -> sparse.csr_matrix:
    """Rows that sum to 1; empty ones stay."""
    total = np.asarray(counts.sum(axis=1)).ravel()
    return sparse.csr_matrix(sparse.diags(1 / np.where(total > 0, total, 1)) @ counts)
