"""The tokenise stage on real actors: the same on any pool and after a death, and nothing of it is left behind."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import ray
from ray.util import placement_group_table

from lgsid_ray.artifacts import Inverse, Sids
from lgsid_ray.artifacts.spans import spans
from lgsid_ray.artifacts.trie import FILE as TRIE
from lgsid_ray.errors import StorageError
from lgsid_ray.execution.storage import StageDir
from lgsid_ray.tokenizer import stage as stage_module
from lgsid_ray.tokenizer.clustering import kmeans
from lgsid_ray.tokenizer.pool import Pool
from lgsid_ray.tokenizer.shard import FAN, View
from lgsid_ray.tokenizer.stage import tokenise
from lgsid_ray.tokenizer.tokenizer import FILE
from tests.tokenizer.conftest import (
    ENOUGH,
    InProcess,
    assert_shared_in_its_own_space,
    config,
    items,
    run,
    tokens_of,
    vectors,
    world,
)

pytestmark = pytest.mark.usefixtures("ray_local")


def test_no_pool_no_cut_and_no_order_changes_anything(
    inputs: dict[str, StageDir], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stage_module, "SPAN_ROWS", 300)
    outs = []
    for actors, rows in ((1, 90), (2, 700)):
        monkeypatch.setattr(stage_module, "BUCKET_ROWS", rows)
        outs.append(run(inputs, tmp_path, ENOUGH, f"tokenizer.kmeans.actors={actors}")[0])
    for name in (FILE, TRIE, "metrics.json", "card.json"):
        assert outs[0].read(name) == outs[1].read(name)
    for table in (Sids, Inverse):
        assert table(outs[0]).read().equals(table(outs[1]).read())
    assert len(Inverse(outs[0]).parts()) > 2 * len(Inverse(outs[1]).parts()) > 2
    # Another cut and another order, with the same tokenizer.
    monkeypatch.setattr(stage_module, "SPAN_ROWS", 1999)
    for turned in (False, True):
        table, rows, out = items(2000), vectors(2000), StageDir(f"{tmp_path}/{turned}").make()
        for name in (FILE, "history.json"):
            with out.write(name) as file:
                file.write(outs[0].read(name))
        if turned:
            table = table.take(pa.array(np.arange(2000)[::-1])).set_column(0, "item_index", pa.array(np.arange(2000)))
            rows = rows[::-1]
        tokenise(config(ENOUGH), world(tmp_path / f"world-{turned}", table, rows), out)
        tokens = tokens_of(out)
        assert np.array_equal(tokens[::-1] if turned else tokens, tokens_of(outs[0]))
        if not turned:
            assert Inverse(outs[0]).read().equals(Inverse(out).read())


def test_a_tokenizer_that_is_trained_by_gradient_steps(inputs: dict[str, StageDir], tmp_path: Path) -> None:
    assert_shared_in_its_own_space("rq_vae, steps: 200, hidden: [16], latent: 6", inputs, tmp_path)


def test_no_pool_and_no_death_changes_a_digit(inputs: dict[str, StageDir]) -> None:
    work, found = spans(inputs["catalogue"], inputs["vectors"], 90), []
    assert len(work) > FAN, "results are added in more than one step"
    for kind, actors, kill in ((InProcess, 1, False), (Pool, 1, False), (Pool, 2, False), (Pool, 2, True)):
        pool = kind(work, actors)
        if kill:
            ray.kill(pool._actors[1])
        found.append(kmeans(pool, View(), 10, config().tokenizer.kmeans, 0, "level-1").centroids)
        pool.close()
    for other in found[1:]:
        assert np.array_equal(found[0], other)


def test_what_a_shard_refuses_is_told_by_the_sum(inputs: dict[str, StageDir]) -> None:
    pool = Pool(spans(inputs["catalogue"], inputs["vectors"], 90), 2)
    with pytest.raises(AttributeError, match="no_such_method"):
        pool.sum("no_such_method")
    pool.close()


def test_a_pool_that_fails_gives_its_cpus_back(tmp_path: Path) -> None:
    before = placement_group_table().keys()
    turned = world(tmp_path / "w", items(300).take(pa.array(np.arange(300)[::-1])), vectors(300))
    with pytest.raises(StorageError, match=r"item_index is not 0\.\.n-1 in order"):
        run(turned, tmp_path)
    mine = [group for name, group in placement_group_table().items() if name not in before]
    assert [group["state"] for group in mine] == ["REMOVED"]
