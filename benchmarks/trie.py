"""The prefix tree of SIDs against the dictionary of prefixes that `prefix_allowed_tokens_fn` is usually given.

Both tell which tokens may follow each beam's prefix, in one process with one thread; they take turns, and who goes
first changes every round. Prints what building takes and holds, and the median paired ratio of the times of a mask.

    python benchmarks/trie.py --items 2300000 --sizes 2048 512 256 --beams 500
"""

import argparse
import sys
import time
from collections.abc import Callable
from functools import partial

import numpy as np

from lgsid_ray.artifacts import Trie
from lgsid_ray.artifacts.keys import pack_sids, unpack_sids

Follow = dict[tuple[int, ...], list[int]]


def distinct_sids(items: int, sizes: list[int], seed: int) -> np.ndarray:
    """So many distinct SIDs where there are enough, (n, L), crowded as in a catalogue: some prefixes hold many."""
    rng = np.random.default_rng(seed)
    columns = [np.floor(size * rng.random(2 * items) ** 1.3).astype(np.int64) for size in sizes]
    distinct = np.unique(pack_sids(np.stack(columns, axis=1), sizes))
    return unpack_sids(rng.permutation(distinct)[:items], sizes)


def dictionary(sids: np.ndarray) -> Follow:
    """Prefix → what may follow it."""
    follow: dict[tuple[int, ...], set[int]] = {}
    for row in sids.tolist():
        for depth, token in enumerate(row):
            follow.setdefault(tuple(row[:depth]), set()).add(token)
    return {prefix: sorted(tokens) for prefix, tokens in follow.items()}


def mask_by_trie(trie: Trie, prefixes: np.ndarray, size: int) -> np.ndarray:
    """(beams, size) which tokens may follow the prefixes, (beams, l)."""
    states = np.full(len(prefixes), trie.root)
    for token in prefixes.T:
        states = trie.step(states, token)
    return trie.allowed(states, size)


def mask_by_dictionary(follow: Follow, prefixes: np.ndarray, size: int) -> np.ndarray:
    """The same."""
    allowed = np.zeros((len(prefixes), size), bool)
    for row, prefix in enumerate(prefixes.tolist()):
        allowed[row, follow[tuple(prefix)]] = True
    return allowed


def timed(call: Callable[[], np.ndarray]) -> tuple[float, np.ndarray]:
    """Seconds and result."""
    begun = time.perf_counter()
    found = call()
    return time.perf_counter() - begun, found


def main() -> None:
    """Build both, let them take turns, and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--items", type=int, default=300_000)
    parser.add_argument("--sizes", type=int, nargs="+", default=[512, 256, 256])
    parser.add_argument("--beams", type=int, default=500)
    parser.add_argument("--rounds", type=int, default=21)
    args = parser.parse_args()
    sids = distinct_sids(args.items, args.sizes, 0)
    begun = time.perf_counter()
    trie = Trie.build(sids)
    built = time.perf_counter() - begun
    begun = time.perf_counter()
    follow = dictionary(sids)
    by_hand = time.perf_counter() - begun
    nodes, held = len(trie.token), sum(part.nbytes for part in vars(trie).values())
    # Without the numbers in its lists, and without the items, which the trie holds too.
    slots = sys.getsizeof(follow) + sum(sys.getsizeof(key) + sys.getsizeof(value) for key, value in follow.items())
    print(f"{len(sids)} SIDs of sizes {args.sizes}, {nodes} nodes")
    print(f"built in {built:.2f} s, the dictionary in {by_hand:.1f} s, {by_hand / built:.0f} x ours")
    print(f"bytes a node: {held / nodes:.1f}, the dictionary's {slots / nodes:.1f}, {slots / held:.1f} x ours")
    rng = np.random.default_rng(1)
    for depth, size in enumerate(args.sizes):
        prefixes = sids[rng.integers(0, len(sids), args.beams), :depth]
        calls = (partial(mask_by_trie, trie, prefixes, size), partial(mask_by_dictionary, follow, prefixes, size))
        seconds = []
        for number in range(args.rounds + 1):  # the first round warms up
            taken = {turn: timed(calls[turn]) for turn in ((0, 1) if number % 2 else (1, 0))}
            assert np.array_equal(taken[0][1], taken[1][1])
            seconds.append((taken[0][0], taken[1][0]))
        ratios = [theirs / ours for ours, theirs in seconds[1:]]
        ours, theirs = np.median(seconds[1:], axis=0) * 1e3
        least = np.min(seconds[1:], axis=0) * 1e3
        print(
            f"mask of {args.beams} beams behind {depth} tokens: {ours:.2f} ms (least {least[0]:.2f}), the dictionary "
            f"{theirs:.2f} ms ({least[1]:.2f}), {np.median(ratios):.1f} x ours ({min(ratios):.1f}-{max(ratios):.1f})"
        )


if __name__ == "__main__":
    main()
