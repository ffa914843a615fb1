"""Search in long histories: SIM, TWIN and ETA against loops, and what each finds."""

import numpy as np
import torch
from torch import nn

from lgsid_ray.config.recommend import EtaConfig
from lgsid_ray.recommend.rankers.eta import SimHash, hamming
from lgsid_ray.recommend.rankers.layers import HeadAttention
from lgsid_ray.recommend.rankers.search import STEPS, best, distinct, padded, steps, walked
from tests.recommend.test_rankers import ITEMS, MODELS, TOKENS, batch, ranker


def test_the_best_of_a_history_are_those_of_a_sort_and_equals_go_to_the_latest() -> None:
    given = batch(40)
    torch.manual_seed(0)
    scores = torch.randint(-3, 3, given.long.shape).float()
    found = best(given, padded(given, scores), 4)
    for row in range(40):
        inside = [place for place in range(12) if given.long[row, place] >= 0]
        expected = sorted(inside, key=lambda place: (-scores[row, place].item(), place))[:4]
        assert set(found.place[row][found.valid[row]].tolist()) == set(expected)
        chosen = given.long[row, found.place[row]].clamp(min=0)
        assert torch.equal(found.item[row], chosen)


def test_heads_take_turns_and_name_nothing_twice() -> None:
    given = batch(40)
    torch.manual_seed(0)
    scores = torch.randint(-3, 3, (*given.long.shape, 3)).float()
    found = walked(given, padded(given, scores), 5)
    for row in range(40):
        inside = [place for place in range(12) if given.long[row, place] >= 0]
        lists = [sorted(inside, key=lambda place, h=h: (-scores[row, place, h].item(), place)) for h in range(3)]
        named: list[int] = []
        for turn in range(len(inside)):
            for one in lists:
                if one[turn] not in named:
                    named.append(one[turn])
        assert set(found.place[row][found.valid[row]].tolist()) == set(named[:5])


def test_distinct_items_stand_for_every_event() -> None:
    history = torch.tensor([[5, 3, -1], [3, 5, 2]])
    inside = history >= 0
    for items, expected in ((6, [0, 1, 2, 3, 4, 5]), (1000, [0, 2, 3, 5])):  # the whole catalogue; only what is there
        known, index = distinct(history, items)
        assert known.tolist() == expected
        assert torch.equal(known[index][inside], history[inside])


def test_steps_double_twice() -> None:
    amounts = torch.tensor([0.0, 0.4, 0.5, 1.0, 3.0, 7.0, 1e9])
    assert steps(amounts).tolist() == [0, 0, 1, 2, 4, 6, STEPS - 1]


def test_attention_of_heads_equals_a_loop() -> None:
    torch.manual_seed(1)
    attention = HeadAttention(5, 7, heads=2, size=3).double()
    target, events, bias = torch.randn(3, 5).double(), torch.randn(3, 4, 7).double(), torch.randn(3, 4, 2).double()
    valid = torch.tensor([[1, 1, 0, 1], [0, 0, 0, 0], [1, 1, 1, 1]], dtype=torch.bool)
    got = attention(target, events, valid, bias)
    for b in range(3):
        for head in range(2):
            own = slice(3 * head, 3 * head + 3)
            query = attention.query.weight[own] @ target[b]
            logits = [
                query @ (attention.key.weight[own] @ e) / 3**0.5 + bias[b, t, head] for t, e in enumerate(events[b])
            ]
            weight = [torch.exp(one) * here for one, here in zip(logits, valid[b], strict=True)]
            total = sum(weight)
            mixed = sum(w * (attention.value.weight[own] @ e) for w, e in zip(weight, events[b], strict=True))
            expected = mixed / total if total > 0 else torch.zeros(3).double()
            torch.testing.assert_close(got[b, own], expected, atol=1e-6, rtol=0)


def test_sims_search_scores_and_mixes_as_the_paper_says() -> None:
    model, given = ranker(MODELS["sim"]).double().eval(), batch()
    given = given._replace(facts=given.facts.double(), alike=given.alike.double(), label=given.label.double())
    guesses = []
    for row in range(len(given.target)):
        wanted = model.items(given.target[row])
        events = [model.items(item) for item in given.long[row] if item >= 0]
        mixed = torch.zeros_like(wanted)
        for event in events:
            mixed = mixed + (model.search.query(wanted) @ model.search.key(event)) * event / len(events)
        guesses.append(model.search.head(mixed[None], wanted[None])[0])
    expected = nn.functional.binary_cross_entropy_with_logits(torch.stack(guesses), given.label)
    torch.testing.assert_close(model.losses(given)["search"], expected, atol=1e-6, rtol=0)


def test_hard_search_finds_the_latest_of_the_same_first_token_or_item() -> None:
    given = batch(40)
    for tokens in (TOKENS, None):
        model = ranker(MODELS["sim, hard"], tokens)
        found = best(given, model._alike(given), 4)
        kind = np.arange(ITEMS) if tokens is None else tokens[:, 0]
        for row in range(40):
            alike = [
                p
                for p, item in enumerate(given.long[row].tolist())
                if item >= 0 and kind[item] == kind[given.target[row]]
            ]
            assert sorted(found.place[row][found.valid[row]].tolist()) == alike[:4]


def test_twin_searches_by_the_weights_that_it_attends_by() -> None:
    model, given = ranker(MODELS["twin"]).eval(), batch()
    for table in (model.cross.age, model.cross.way):
        nn.init.normal_(table.weight)
    wanted = model.items(given.target)
    events = model.items(given.long.clamp(min=0))
    expected = model.attention.scores(wanted, model.attention.key(events)) + model.cross(given.gap, given.km)
    inside = given.long >= 0
    torch.testing.assert_close(model.scores(given, wanted)[inside], expected[inside])
    assert (model.scores(given, wanted)[~inside] == -torch.inf).all()
    # With room for all, the search leaves nothing out, and the order of events means nothing beside their times.
    model.found = 12
    turned = given._replace(long=given.long.flip(1), gap=given.gap.flip(1), km=given.km.flip(1))
    torch.testing.assert_close(model(given), model(turned))


def test_hamming_distance_counts_bits() -> None:
    rng = np.random.default_rng(0)
    left, right = rng.integers(0, 2**62, (2, 500))
    expected = [int(a ^ b).bit_count() for a, b in zip(left.tolist(), right.tolist(), strict=True)]
    assert hamming(torch.from_numpy(left), torch.from_numpy(right)).tolist() == expected


def test_hashes_tell_the_sides_of_planes_and_are_kept_with_the_weights() -> None:
    torch.manual_seed(0)
    hashed, vectors = SimHash(5, 9), torch.randn(20, 5)
    expected = [sum(int(v @ hashed.planes[:, bit] > 0) << bit for bit in range(9)) for v in vectors]
    assert hashed(vectors).tolist() == expected
    other = SimHash(5, 9)
    other.load_state_dict(hashed.state_dict())
    assert torch.equal(other(vectors), hashed(vectors))


def test_eta_finds_nine_of_ten_of_the_nearest_fifty_at_its_default_bits() -> None:
    torch.manual_seed(0)
    clusters = torch.nn.functional.normalize(torch.randn(20, 64), dim=1)
    events = clusters.repeat_interleave(50, dim=0) + 0.05 * torch.randn(1000, 64)
    hashed, shares = SimHash(64, EtaConfig().bits), []
    for cluster in clusters:
        wanted = cluster + 0.05 * torch.randn(64)
        cosine = nn.functional.cosine_similarity(events, wanted[None])
        near = hamming(hashed(wanted), hashed(events)).topk(50, largest=False).indices
        shares.append(np.isin(near.numpy(), cosine.topk(50).indices.numpy()).mean())
    assert np.mean(shares) >= 0.9
