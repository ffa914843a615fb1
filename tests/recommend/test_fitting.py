"""The order of the steps and the choice of the best epoch."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from lgsid_ray.errors import StorageError
from lgsid_ray.recommend.batches import order
from lgsid_ray.recommend.fitting import Best, Schedule, curve
from lgsid_ray.recommend.panel import Panel


def test_an_epoch_takes_every_row_once_whatever_the_number_of_workers() -> None:
    schedule = Schedule(rows=24, batch_size=6, epochs=2, seed=0)
    assert (schedule.epoch_steps, schedule.steps) == (4, 8)
    rows = np.arange(100, 124)
    for epoch in range(2):
        shuffled = order(rows, 0, epoch)
        taken = [schedule.share(shuffled, 4 * epoch + s, rank, 3) for s in range(4) for rank in range(3)]
        assert sorted(np.concatenate(taken).tolist()) == list(range(100, 124))
        alone = schedule.share(shuffled, 4 * epoch + 1, 0, 1)
        assert sorted(alone.tolist()) == sorted(np.concatenate(taken[3:6]).tolist())
    assert order(rows, 0, 0).tolist() != order(rows, 0, 1).tolist()


def test_fewer_rows_than_a_batch_are_repeated() -> None:
    share = Schedule(rows=3, batch_size=8, epochs=1, seed=0).share(np.array([5, 6, 7]), 0, rank=1, workers=2)
    assert share.tolist() == [6, 5, 7, 6]


def test_the_rate_warms_up_and_then_falls_to_nearly_nothing() -> None:
    schedule = Schedule(rows=400, batch_size=4, epochs=1, seed=0)
    scale = [schedule.scale(step) for step in range(100)]
    assert scale[0] == pytest.approx(0.2)
    assert np.argmax(scale) == 4
    assert scale[99] == pytest.approx(0.01)


def test_epochs_end_between_steps() -> None:
    schedule = Schedule(rows=10, batch_size=5, epochs=3, seed=0)
    assert [schedule.ended_epoch(step) for step in range(6)] == [0, 0, 1, 0, 2, 0]


class Distance(nn.Module):
    """Loss: how far its one weight is from a goal."""

    def __init__(self, goal: float) -> None:
        super().__init__()
        self.weight, self.goal = nn.Parameter(torch.zeros(())), goal

    def losses(self, _: Tensor) -> dict[str, Tensor]:
        far = (self.weight - self.goal).abs()
        return {"far": far, "auxiliary": 10 - 3 * far}  # which must not choose


class Nothing:
    train = valid = np.arange(3)

    def batch(self, rows: np.ndarray) -> Tensor:
        return torch.from_numpy(rows)


def test_every_member_gets_its_own_best_epoch() -> None:
    panel = Panel({"low": lambda: Distance(1.0), "high": lambda: Distance(3.0)}, {"low": 0, "high": 0})
    best = Best(panel, Nothing())
    for value in (1.0, 2.0, 3.0):
        best.see({f"{prefix}weight": torch.tensor(value) for prefix in panel.prefixes}, "here")
    best.settle()
    assert best.epochs == {"low": 1, "high": 3}
    assert panel.members["low"].weight.item() == 1.0  # type: ignore[operator, union-attr]
    assert panel.members["high"].weight.item() == 3.0  # type: ignore[operator, union-attr]
    assert best.losses[1] == {"low": 1.0, "high": 1.0}
    assert best.weights["high"].keys() == {"weight"}


def test_weights_of_another_panel_are_refused_by_name() -> None:
    best = Best(Panel({"a": lambda: Distance(1.0)}, {"a": 0}), Nothing())
    one = torch.tensor(1.0)
    for weights, wrong in (
        ({}, "_models.0.weight is missing"),
        ({"_models.0.weight": one, "_models.1.weight": one}, "_models.1.weight is unexpected"),
        ({"_models.0.weight": one[None]}, r"has shape \(1,\) instead of \(\)"),
    ):
        with pytest.raises(StorageError, match=rf"epochs/0001.*{wrong}.*delete"):
            best.see(weights, "epochs/0001")


class Noise(nn.Module):
    """A loss that is what dropout leaves of ones."""

    def losses(self, batch: Tensor) -> dict[str, Tensor]:
        return {
            "kept": nn.functional.dropout(torch.ones(64), training=self.training).sum()
            + nn.functional.dropout(batch)[0]
        }


def test_dropout_is_drawn_by_member_step_and_rank_whoever_else_is_there() -> None:
    ones = torch.ones(50)

    def kept(names: str, step: int = 0, rank: int = 0) -> dict[str, float]:
        panel = Panel(dict.fromkeys(names, Noise), {name: ord(name) for name in names})
        return {name: parts["kept"].item() for name, parts in panel(ones, step, rank).items()}

    together = kept("abc")
    assert together == kept("c") | kept("b") | kept("a")
    draws = [torch.tensor(list(kept("abcdefgh", *moment).values())) for moment in ((0, 0), (1, 0), (0, 1))]
    assert len(set(draws[0].tolist())) > 1
    assert not torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])


def test_the_curve_averages_spans_and_marks_epochs() -> None:
    history = [{"step": s, "x/a/click": float(s), "x/ab/click": 0.0} for s in range(1, 801)]
    schedule = Schedule(rows=400, batch_size=1, epochs=2, seed=0)
    points = curve("x/a", history, [{"x/a": 0.5, "x/ab": 9.0}, {"x/a": 0.25, "x/ab": 9.0}], schedule)
    train = [point for point in points if "epoch" not in point]
    assert len(train) == 200
    assert train[0] == {"step": 4, "click": 2.5}
    assert [point for point in points if "epoch" in point] == [
        {"step": 400, "epoch": 1, "valid": 0.5},
        {"step": 800, "epoch": 2, "valid": 0.25},
    ]
