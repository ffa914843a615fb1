"""What is told of an item, against plain loops over a small seeded catalogue."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from lgsid_ray.artifacts import Embeddings, Items, Sids
from lgsid_ray.artifacts.labels import path_codes
from lgsid_ray.evaluate.explain import SIBLINGS, Explanation, explain
from lgsid_ray.evaluate.space import Space
from lgsid_ray.geo.distance import haversine_km
from tests.evaluate.conftest import corpus_of, make_corpus, write_stages

PLAIN = make_corpus().of(np.arange(240))
UNPLACED = replace(PLAIN, labels=np.full_like(PLAIN.labels, -1), xyz=None)


def told_of(root: Path, space: Space, *wanted: str) -> tuple[dict[str, Explanation], Items, np.ndarray]:
    stages = write_stages(root, corpus_of(space))
    items, sids = Items(stages["catalogue"]), Sids(stages["tokenise"])
    return explain(items, sids, Embeddings(stages["embed"]), wanted), items, sids.tokens(len(space))


def test_prefixes_and_siblings_against_a_loop(tmp_path: Path) -> None:
    told, items, tokens = told_of(tmp_path, PLAIN, "i17", "i5", "nobody")
    assert set(told) == {"i17", "i5"}
    rows = items.read().to_pylist()
    for item_id, one in told.items():
        me = int(item_id[1:])
        assert one.item == rows[me]
        assert one.subject.tokens == tuple(tokens[me])
        far = [float(haversine_km(rows[me]["lat"], rows[me]["lon"], row["lat"], row["lon"])) for row in rows]
        before = len(rows)
        for length, prefix in enumerate(one.prefixes, start=1):
            members = [row for row in range(len(rows)) if (tokens[row, :length] == tokens[me, :length]).all()]
            assert (prefix.items, prefix.of) == (len(members), before)
            assert prefix.half_km == pytest.approx(np.median([far[row] for row in members if row != me]))
            only = [row for row in members if length == 2 or tokens[row, length] != tokens[me, length]]
            nearest = sorted((row for row in only if row != me), key=lambda row: far[row])[:SIBLINGS]
            assert [sibling.item["item_index"] for sibling in prefix.siblings] == nearest
            for sibling, row in zip(prefix.siblings, nearest, strict=True):
                assert sibling.km == pytest.approx(far[row])
                assert sibling.similarity == pytest.approx(PLAIN.reference[me] @ PLAIN.reference[row], abs=1e-5)
            before = len(members)


def test_what_is_said_is_the_city_that_level_1_stands_for(tmp_path: Path) -> None:
    told, items, tokens = told_of(tmp_path, PLAIN, "i17")
    cities = path_codes(items.read(), 2)[:, 1]
    here = tokens[:, 0] == tokens[17, 0]
    (said,) = [one for one in told["i17"].prefixes[0].said if one.field == "city"]
    assert said.value == items.read().column("city").to_pylist()[17]
    assert said.inside == pytest.approx((cities[here] == cities[17]).mean()) == 1
    assert said.outside == pytest.approx((cities[~here] == cities[17]).mean()) == 0
    assert told["i17"].prefixes[1].said == []  # its second token is drawn at random


def test_without_coordinates_the_nearest_are_the_most_alike(tmp_path: Path) -> None:
    told, _, tokens = told_of(tmp_path, UNPLACED, "i3")
    first, second = told["i3"].prefixes
    assert first.of == first.items == 240  # level 1 gives all of them one code, so nothing tells them from others
    assert (first.said, first.half_km) == ([], None)
    alike = PLAIN.reference @ PLAIN.reference[3]
    others = [row for row in range(240) if row != 3 and tokens[row, 1] == tokens[3, 1]]
    assert [one.item["item_index"] for one in second.siblings] == sorted(others, key=lambda row: -alike[row])[:SIBLINGS]
    assert [one.km for one in second.siblings] == [None] * SIBLINGS


def test_an_item_alone(tmp_path: Path) -> None:
    told, _, _ = told_of(tmp_path, PLAIN.rows(slice(0, 1)), "i0")
    for prefix in told["i0"].prefixes:
        assert (prefix.items, prefix.of, prefix.half_km, prefix.said, prefix.siblings) == (1, 1, None, [], [])
