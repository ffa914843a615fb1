"""DIEN against loops over the equations of its paper."""

import torch
import torch.nn.functional as F

from lgsid_ray.recommend.rankers.dien import Augru, _oldest_first
from tests.recommend.test_rankers import MODELS, batch, ranker


def test_augru_follows_its_equations_step_by_step() -> None:
    torch.manual_seed(0)
    cell = Augru(5, 4).double()
    inputs, attention = torch.randn(3, 6, 5).double(), torch.rand(3, 6).double()
    of_input, of_state = cell.of_input, cell.of_state
    for b in range(3):
        state = torch.zeros(4).double()
        for t in range(6):
            x, h = inputs[b, t], state
            gate = [of_input.weight[4 * k : 4 * k + 4] @ x + of_input.bias[4 * k : 4 * k + 4] for k in range(3)]
            back = [of_state.weight[4 * k : 4 * k + 4] @ h + of_state.bias[4 * k : 4 * k + 4] for k in range(3)]
            update = attention[b, t] * torch.sigmoid(gate[0] + back[0])
            proposed = torch.tanh(gate[2] + torch.sigmoid(gate[1] + back[1]) * back[2])
            state = (1 - update) * h + update * proposed
        torch.testing.assert_close(cell(inputs, attention)[b], state, atol=1e-6, rtol=0)


def test_augru_with_full_attention_is_a_gru() -> None:
    torch.manual_seed(0)
    cell, plain = Augru(5, 4), torch.nn.GRU(5, 4, batch_first=True)
    # torch's gates stand as (reset, update, new), and its update says how much is kept.
    turn = lambda rows: torch.cat([-rows[4:8], rows[:4], rows[8:]])  # noqa: E731
    with torch.no_grad():
        for mine, its in ((cell.of_input, "ih"), (cell.of_state, "hh")):
            mine.weight.copy_(turn(getattr(plain, f"weight_{its}_l0")))
            mine.bias.copy_(turn(getattr(plain, f"bias_{its}_l0")))
    inputs = torch.randn(3, 6, 5)
    torch.testing.assert_close(cell(inputs, torch.ones(3, 6)), plain(inputs)[1][0])


def test_without_attention_nothing_moves() -> None:
    torch.manual_seed(0)
    assert not Augru(5, 4)(torch.randn(2, 7, 5), torch.zeros(2, 7)).any()


def test_histories_are_turned_around_in_front_of_their_padding() -> None:
    history = torch.tensor([[3, 2, 1, -1], [7, -1, -1, -1], [-1] * 4])
    assert _oldest_first(history, history).tolist() == [[1, 2, 3, -1], [7, -1, -1, -1], [-1] * 4]


def test_the_auxiliary_loss_tells_the_next_click_from_another_at_every_event() -> None:
    model, given = ranker(MODELS["dien"]).double().eval(), batch()
    total, count = torch.zeros(()).double(), 0
    for row in range(len(given.target)):
        events = [item for item in given.history[row].tolist() if item >= 0][::-1]
        passed = given.passed[row].tolist()[: len(events)][::-1]
        if not events:
            continue
        interests = model.extract(model.items(torch.tensor([events])))[0][0]
        for t in range(len(events) - 1):
            expected = model.expects(interests[t])
            clicked, other = (model.items(torch.tensor(one[t + 1])) @ expected for one in (events, passed))
            total = total - (F.logsigmoid(clicked) + F.logsigmoid(-other)) / 2
            count += 1
    given = given._replace(facts=given.facts.double(), alike=given.alike.double(), label=given.label.double())
    torch.testing.assert_close(model.losses(given)["next"], total / count, atol=1e-6, rtol=0)


def test_the_order_of_the_history_counts() -> None:
    model, given = ranker(MODELS["dien"]).eval(), batch()
    full = (given.history >= 0).all(dim=1)
    turned = given._replace(history=torch.where(full[:, None], given.history.flip(1), given.history))
    changed = model(given) != model(turned)
    assert full.any()
    assert changed[full].all()
    assert not changed[~full].any()
