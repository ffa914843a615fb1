"""What the terminal and the page say of generators: two tasks apart, models and what counts beside them."""

from typing import Any

import pytest
from rich.console import Console

from lgsid_ray.recommend.table import tables
from lgsid_ray.report.recommenders import _generate_table


def figures(hit: float) -> dict[str, float]:
    named = {f"{name}@{k}": hit for name in ("hit", "ndcg") for k in (1, 5, 10, 20)} | {"mrr": hit}
    return named | {
        f"{name}@10_{end}": hit + way for name in ("hit", "ndcg") for end, way in (("low", -0.01), ("high", 0.01))
    }


def generation(discovery: bool) -> dict[str, Any]:
    def test(hit: float) -> dict[str, Any]:
        return {"test": {"next": figures(hit), "discovery": figures(hit / 2) if discovery else None}}

    def gain(ahead: float) -> dict[str, float]:
        return {"hit@10": ahead, "hit@10_low": ahead - 0.01, "hit@10_high": ahead + 0.01}

    models, blends = {"tiger/hgit": test(0.4)}, {"tiger/hgit + rules": test(0.55)}
    worth = {"tiger/hgit + rules": {"test": {"next": gain(0.05), "discovery": gain(-0.02) if discovery else None}}}
    counting = {"popularity": test(0.1), "own_history": {"test": {"next": figures(0.3)}}, "mixture": test(0.5)}
    counted = {"queries": {"test": 1500}, "discovery": {"test": 624}}
    return {"models": models, "blends": blends, "worth": worth, "baselines": counting, **counted}


@pytest.mark.parametrize("discovery", [True, False])
def test_the_terminal_sets_models_beside_what_counts(discovery: bool) -> None:
    console = Console(width=80)
    with console.capture() as captured:
        for table in tables(None, generation(discovery)):
            console.print(table)
    lines = captured.get().splitlines()
    first, second = (
        next(n for n, line in enumerate(lines) if line.startswith(name)) for name in ("Next item", "Discovery")
    )
    next_item, new = lines[first:second], lines[second:]
    assert any("tiger/hgit" in line and "0.400" in line and "0.390 to 0.410" in line for line in next_item)
    assert any("own_history" in line and "0.300" in line for line in next_item)
    assert any("mixture" in line and "0.250" in line for line in new) == discovery
    assert not any("own_history" in line for line in new)
    assert any("+ rules" in line and "0.550" in line for line in next_item)
    gain = "tiger/hgit + rules: {} of hit@10 beyond the mixture"
    told, of_new = (" ".join(" ".join(lines).split()) for lines in (next_item, new))  # what stands below may be wrapped
    assert gain.format("+0.050 (95 %: +0.040 to +0.060)") in told
    assert (gain.format("-0.020 (95 %: -0.030 to -0.010)") in of_new) == discovery


@pytest.mark.parametrize("discovery", [True, False])
def test_the_page_sets_models_beside_what_counts(discovery: bool) -> None:
    page = str(_generate_table(generation(discovery)))
    assert "What comes next, 1500 users" in page
    assert ("What is new, 624 users" in page) == discovery
    assert page.count("tiger/hgit<") == page.count("tiger/hgit + rules<") == page.count("mixture</td") == 1 + discovery
    assert "+0.0500 (+0.0400 to +0.0600)" in page
    assert ("-0.0200 (-0.0300 to -0.0100)" in page) == discovery
    assert "0.390 to 0.410" in page
    assert "_low" not in page
