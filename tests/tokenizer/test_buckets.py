"""Buckets of SIDs, however many: what they write equals the whole table sorted at once, what they tell is small."""

import pickle
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from lgsid_ray.artifacts import Interactions, Inverse, Sids, Trie
from lgsid_ray.artifacts.keys import pack_sids
from lgsid_ray.artifacts.sids import unique_tokens
from lgsid_ray.artifacts.table import lists
from lgsid_ray.execution.storage import StageDir
from lgsid_ray.tokenizer.buckets import Settled, Site, build_trie, count, look, publish, settle, spread
from lgsid_ray.tokenizer.codec import sid_text
from lgsid_ray.tokenizer.collisions import Held, bucket_starts
from lgsid_ray.tokenizer.encoded import MOVED, TOKENS, Encoded, part

SIZES = [5, 4, 6]


def site(folder: Path, tokens: np.ndarray, ids: list[str], visits: np.ndarray, span: int, sizes: list[int]) -> Site:
    """What encoding leaves of such items, `span` at a time, and a log in two parts with so many visits of each."""
    catalogue, out = StageDir(f"{folder}/catalogue"), StageDir(f"{folder}/out").make()
    starts = [*range(0, len(ids), span), len(ids)]
    for number, start in enumerate(starts[:-1]):
        rows = slice(start, starts[number + 1])
        columns = {"item_index": np.arange(len(ids))[rows], "item_id": ids[rows]}
        out.write_table(f"{TOKENS}/{part(number)}", pa.table(columns | {"tokens": lists(tokens[rows], pa.int32())}))
    visited = np.random.default_rng(9).permutation(np.repeat(np.arange(len(ids)), visits))
    for number, index in enumerate(np.array_split(visited, 2)):
        always = {"user_id": "u", "label": 1.0, "timestamp": 0, "rank_split": "train", "generate_split": "train"}
        log = {"item_index": index, "item_id": [ids[item] for item in index]}
        log |= {name: [value] * len(index) for name, value in always.items()}
        Interactions(catalogue).write(pa.table(log), part(number))
    return Site(catalogue, out, Encoded(out, starts), sizes)


def resolve(site: Site, rows: int) -> list[Settled]:
    """All phases, with buckets of about `rows` items."""
    spans = range(len(site.encoded))
    count(site)
    starts = bucket_starts(np.concatenate([look(span, site, 1).sample for span in spans]), rows)
    for span in spans:
        spread(span, site, starts)
    settled = [settle(bucket, site) for bucket in range(len(starts) + 1)]
    for span in spans:
        publish(span, site, True)
    build_trie(site.out, sum(settled_items(settled)) > len(Inverse(site.out).read()))
    return settled


def settled_items(settled: list[Settled]) -> list[int]:
    """Items of each bucket."""
    return [sum(items * times for items, times in one.held[-1].prefixes.items()) for one in settled]


def draw(count: int, sizes: list[int]) -> tuple[np.ndarray, list[str], np.ndarray]:
    """Tokens, keys in an order of their own, and visits with many ties."""
    rng = np.random.default_rng(count)
    tokens = np.stack([np.minimum(rng.geometric(0.5, count), size) - 1 for size in sizes], axis=1).astype(np.int32)
    return tokens, [f"i{number:04d}" for number in rng.permutation(count)], rng.integers(0, 3, count)


APART = np.stack(np.unravel_index(np.random.default_rng(0).permutation(120)[:60], SIZES), axis=1).astype(np.int32)
CASES = {
    "many": draw(120, SIZES),
    "one item": draw(1, SIZES),
    "all alike": (np.tile(np.array([[2, 0, 5]], np.int32), (40, 1)), *draw(40, SIZES)[1:]),
    "all apart": (APART, *draw(60, SIZES)[1:]),
    "no visits": (*draw(60, SIZES)[:2], np.zeros(60, np.int64)),
}


@pytest.mark.parametrize(
    ("span", "rows"), [(1, 20), (17, 1), (17, 7), (17, 1_000), (50, 30), (1_000, 3), (1_000, 1_000)]
)
@pytest.mark.parametrize("case", CASES)
def test_buckets_equal_the_whole_table(case: str, span: int, rows: int, tmp_path: Path) -> None:
    tokens, ids, visits = CASES[case]
    here = site(tmp_path, tokens, ids, visits, span, SIZES)
    settled = resolve(here, rows)
    whole = sorted(range(len(ids)), key=lambda item: (tokens[item].tolist(), -visits[item], ids[item]))
    inverse: dict[tuple[int, ...], list[int]] = {}
    for item in whole:
        inverse.setdefault(tuple(tokens[item].tolist()), []).append(item)
    assert Inverse(here.out).read().to_pylist() == [
        {"tokens": list(sid), "item_index": items, "item_id": [ids[item] for item in items]}
        for sid, items in inverse.items()
    ]
    rank = {item: place for items in inverse.values() for place, item in enumerate(items)}
    assert Sids(here.out).read().to_pylist() == [
        {"item_index": item, "item_id": name, "tokens": sid, "collision": rank[item], "sid": sid_text(sid, rank[item])}
        for item, (name, sid) in enumerate(zip(ids, tokens.tolist(), strict=True))
    ]
    built = Trie.build(unique_tokens(tokens, np.array([rank[item] for item in range(len(ids))])))
    for name, array in vars(Trie.load(here.out)).items():
        assert np.array_equal(array, vars(built)[name]), name
    for length in (1, 2, 3):
        held = sum((one.held[length - 1] for one in settled), Held()).prefixes
        assert held == Counter(Counter(map(tuple, tokens[:, :length].tolist())).values())
    fullest = sorted((crowd for one in settled for crowd in one.fullest), key=lambda crowd: -crowd.items)[0]
    assert fullest.items == max(map(len, inverse.values()))
    keys = pack_sids(tokens, SIZES)
    assert fullest.key == min(key for key, n in Counter(keys.tolist()).items() if n == fullest.items)
    assert fullest.first == np.flatnonzero(keys == fullest.key)[0]
    assert max(settled_items(settled)) < rows + max(map(len, inverse.values()))


def test_codes_are_counted_and_one_sid_of_so_many_is_shown(tmp_path: Path) -> None:
    tokens, ids, visits = CASES["many"]
    seen = look(1, site(tmp_path, tokens, ids, visits, 45, SIZES), 20)
    mine = tokens[45:90]
    assert [counts.tolist() for counts in seen.counts] == [
        [int((mine[:, level] == code).sum()) for code in range(size)] for level, size in enumerate(SIZES)
    ]
    assert seen.sample.tolist() == sorted(pack_sids(mine, SIZES).tolist())[10::20]


def test_the_driver_gives_and_is_told_little_however_many_items(tmp_path: Path) -> None:
    told = []
    for name, items in (("few", 1_000), ("many", 30_000)):
        sizes = [30, 30, 30]
        tokens, visits = np.random.default_rng(1).integers(0, 30, (items, 3)), np.zeros(items, np.int64)
        ids = [f"a rather long key of an item, {item}" for item in range(items)]
        here = site(tmp_path / name, tokens, ids, visits, items // 2, sizes)
        settled = resolve(here, items // 3)
        told.append([len(pickle.dumps(one)) for one in (here, look(0, here, items // 50), settled)])
    # Numbers of the items would take 29 times as much.
    assert all(many < 1.5 * few for few, many in zip(*told, strict=True)), told


def test_last_tokens_that_moved_take_the_place_of_those_chosen(tmp_path: Path) -> None:
    tokens, ids, visits = CASES["many"]
    encoded = site(tmp_path, tokens, ids, visits, 45, SIZES).encoded
    assert encoded.spans_of(np.array([0, 44, 45, 119])).tolist() == [0, 0, 1, 2]
    for bucket, moved in enumerate(([60], [89, 45])):
        rows = {"item_index": moved, "tokens": [[3, 4]] * len(moved)}
        encoded.out.write_table(f"{MOVED}/1/{part(bucket)}", pa.table(rows))
    expected = tokens.copy()
    expected[[60, 89, 45], 1:] = [3, 4]
    assert np.array_equal(encoded.tokens(), expected)
    assert encoded.read(1)[0].column("item_id").to_pylist() == ids[45:90]
