"""The tokenise stage: every item a SID, the one that the saved tokenizer gives it, also after any kill."""

import shutil
import uuid
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from lgsid_ray.artifacts import Interactions, Inverse, Sids, Trie
from lgsid_ray.artifacts.trie import FILE as TRIE
from lgsid_ray.errors import ConfigError, GateError, StorageError
from lgsid_ray.execution.storage import StageDir
from lgsid_ray.tokenizer import stage as stage_module
from lgsid_ray.tokenizer.buckets import RESOLVING
from lgsid_ray.tokenizer.codec import sid_text
from lgsid_ray.tokenizer.encoded import MOVED, TOKENS
from lgsid_ray.tokenizer.encoding import SHARED
from lgsid_ray.tokenizer.stage import require_items, tokenise
from lgsid_ray.tokenizer.tokenizer import FILE, Tokenizer
from tests.tokenizer.conftest import (
    CHOSEN,
    ENOUGH,
    assert_shared_in_its_own_space,
    config,
    items,
    run,
    tokens_of,
    vectors,
    world,
)

pytestmark = pytest.mark.usefixtures("in_process")


def test_every_item_has_a_sid_and_the_inverse_is_the_inverse(inputs: dict[str, StageDir], tmp_path: Path) -> None:
    out, facts = run(inputs, tmp_path)
    sids = Sids(out).read().to_pylist()
    assert [row["item_index"] for row in sids] == list(range(2000))
    assert [row["item_id"] for row in sids] == [f"i{row:05d}" for row in range(2000)]
    assert len({row["sid"] for row in sids}) == 2000
    assert all(row["sid"] == sid_text(row["tokens"], row["collision"]) for row in sids)
    sharing: dict[tuple[int, ...], dict[int, str]] = {}
    for row in sids:
        sharing.setdefault(tuple(row["tokens"]), {})[row["collision"]] = row["item_id"]
    expected = {tokens: [ids[rank] for rank in range(len(ids))] for tokens, ids in sharing.items()}
    inverse = Inverse(out).read().to_pylist()
    assert {tuple(row["tokens"]): row["item_id"] for row in inverse} == expected
    assert [row["tokens"] for row in inverse] == sorted(row["tokens"] for row in inverse)
    trie, state = Trie.load(out), np.zeros(2000, np.int64)
    for token in np.array([[*row["tokens"], row["collision"]] for row in sids]).T:
        state = trie.step(state, token)
    assert trie.items(state).tolist() == list(range(2000))
    assert facts["distinct_sids"] == len(expected)
    assert facts["level_1"] == "features"
    assert out.read("card.md").decode().startswith("# Tokenizer hgit\n")
    assert sum(row["items"] for row in out.read_json("card.json")["level_1"]) == 2000
    metrics = out.read_json("metrics.json")
    first = np.bincount([row["tokens"][0] for row in sids], minlength=16) / 2000
    entropy = -sum(p * np.log(p) for p in first if p)
    assert metrics["levels"][0]["perplexity"] == pytest.approx(np.exp(entropy))


def test_reconstruction_error_is_that_of_the_saved_tokenizer(inputs: dict[str, StageDir], tmp_path: Path) -> None:
    out, facts = run(inputs, tmp_path)
    tokens, tokenizer = tokens_of(out), Tokenizer.load(out)
    error = np.square(vectors(2000) - tokenizer.decode(tokens)).sum(axis=1).mean()
    assert facts["reconstruction_error"] == pytest.approx(error, rel=1e-5)
    members = tokens[:, 0] == tokens[0, 0]
    assert np.allclose(tokenizer.levels[0].centres[tokens[0, 0]], vectors(2000)[members].mean(axis=0), atol=1e-5)


@pytest.mark.parametrize(
    "kind",
    [
        "hgit, steps: 5, last_level: chosen",
        "res_kmeans, kmeans: {balanced: true}",
        "geo_fused",
        "unified_sid",
        "random",
    ],
)
def test_a_saved_tokenizer_gives_every_item_the_sid_it_had(
    kind: str, inputs: dict[str, StageDir], tmp_path: Path
) -> None:
    out, _ = run(inputs, tmp_path, f"tokenizer={{kind: {kind}, sizes: [16, 12, 8]}}")
    tokenizer, had = Tokenizer.load(out), tokens_of(out)
    table, rows = items(2000), vectors(2000)
    assert np.array_equal(tokenizer.encode(table, rows), had)
    for size in (1, 37):
        for start in range(0, 300, size):
            some = slice(start, start + size)
            assert np.array_equal(tokenizer.encode(table.slice(start, size), rows[some]), had[some])


def test_last_tokens_are_shared_out_in_a_space_of_the_tokenizers_own(
    inputs: dict[str, StageDir], tmp_path: Path
) -> None:
    assert_shared_in_its_own_space("geo_fused", inputs, tmp_path)


def test_ranks_go_by_training_popularity_then_item_id(tmp_path: Path) -> None:
    # Twins share whatever a tokenizer looks at; the table is in an order of its own.
    twins = items(40).take(pa.array(np.tile(np.arange(40), 5)))
    ids = [f"i{number:03d}" for number in np.random.default_rng(0).permutation(200)]
    for name, values in (("item_index", np.arange(200)), ("item_id", ids)):
        twins = twins.set_column(twins.column_names.index(name), name, pa.array(values))
    folders = world(tmp_path / "w", twins, np.tile(vectors(40), (5, 1)))
    visits = np.random.default_rng(1).integers(0, 3, 200)
    visited = np.repeat(np.arange(200), visits)
    split = pa.array(["train"] * len(visited))
    log = {"item_index": visited, "item_id": [ids[i] for i in visited], "user_id": split, "label": [1.0] * len(visited)}
    log |= {"timestamp": [None] * len(visited), "rank_split": split, "generate_split": split}
    Interactions(folders["catalogue"]).write(pa.table(log), "part-00000.parquet")
    out, _ = run(folders, tmp_path, "tokenizer.sizes=[16, 12]", CHOSEN)
    for row in Inverse(out).read().to_pylist():
        assert len(row["item_index"]) >= 5
        assert row["item_index"] == sorted(row["item_index"], key=lambda item: (-visits[item], ids[item]))


def test_codebooks_see_training_items_only_and_all_items_get_a_sid(tmp_path: Path) -> None:
    held = np.arange(600) % 5 == 0
    table = items(600)
    place = table.column_names.index("split")
    table = table.set_column(place, "split", pa.array(np.where(held, "held_place", "train").tolist()))
    rows = vectors(600)
    one, _ = run(world(tmp_path / "one", table, rows), tmp_path, CHOSEN)
    rows[held] = rows[held][::-1]
    two, _ = run(world(tmp_path / "two", table, rows), tmp_path, CHOSEN)
    assert one.read(FILE) == two.read(FILE)
    tokens = [tokens_of(out) for out in (one, two)]
    assert len(tokens[0]) == 600
    assert (tokens[0][~held] == tokens[1][~held]).all()
    assert (tokens[0][held] != tokens[1][held]).any()


def test_same_seed_same_bytes_other_seed_other_sids(inputs: dict[str, StageDir], tmp_path: Path) -> None:
    tables = [run(inputs, tmp_path, seed)[0].read_table("sids.parquet") for seed in ("seed=0", "seed=0", "seed=1")]
    assert tables[0].equals(tables[1])
    assert not tables[0].equals(tables[2])


def test_sids_are_unique_where_there_are_codes_enough(inputs: dict[str, StageDir], tmp_path: Path) -> None:
    out, facts = run(inputs, tmp_path, ENOUGH)
    tokens, tokenizer = tokens_of(out), Tokenizer.load(out)
    chosen = tokenizer.encode(items(2000), vectors(2000))
    assert len(np.unique(chosen, axis=0)) < 1800
    assert len(np.unique(tokens, axis=0)) == facts["distinct_sids"] == 2000
    assert np.array_equal(tokens[:, 0], chosen[:, 0])
    error = np.square(vectors(2000) - tokenizer.decode(tokens)).sum(axis=1).mean()
    assert facts["reconstruction_error"] == pytest.approx(error, rel=1e-5)
    for prefix, level in enumerate(out.read_json("metrics.json")["levels"], start=1):
        decoded = sum(tokenizer.levels[n].centres[tokens[:, n]] for n in range(prefix))
        variance = np.square(vectors(2000) - vectors(2000).mean(axis=0)).sum(axis=1).mean()
        error = np.square(vectors(2000) - decoded).sum(axis=1).mean() / variance
        assert level["relative_error"] == pytest.approx(error, rel=1e-4)


def killed_after(phase: str, whole: StageDir, folder: Path) -> StageDir:
    """What a kill leaves: phases are written one after the other, and nothing behind the one at work."""
    torn = StageDir(f"{folder}/{uuid.uuid4().hex}")
    shutil.copytree(whole.root, torn.root)
    torn.remove("metrics.json")
    if phase == "publishing":
        torn.remove(f"{Sids.name}/part-00001.parquet")
    else:
        Sids(torn).remove()
        torn.remove(TRIE)
        torn.remove(f"{Inverse.name}/part-00002.parquet")
    if phase in ("sharing", "encoding", "fitting"):
        Inverse(torn).remove()
        torn.remove(RESOLVING)
        torn.remove(f"{SHARED}/part-00002.parquet")
        torn.remove(f"{MOVED}/1/part-00002.parquet")
    if phase in ("encoding", "fitting"):
        torn.remove(SHARED)
        torn.remove(MOVED)
        torn.remove(f"{TOKENS}/part-00003.parquet")
    if phase == "fitting":
        torn.remove(FILE)  # what stands in TOKENS is another tokenizer's
        torn.write_table(f"{TOKENS}/part-00000.parquet", pa.table({"half": [1]}))
    return torn


def test_a_kill_in_any_phase_leaves_what_the_next_call_goes_on_with(
    inputs: dict[str, StageDir], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stage_module, "SPAN_ROWS", 500)
    monkeypatch.setattr(stage_module, "BUCKET_ROWS", 300)
    whole, facts = run(inputs, tmp_path, ENOUGH)
    for phase in ("fitting", "encoding", "sharing", "settling", "publishing"):
        torn = killed_after(phase, whole, tmp_path)
        kept = [] if phase == "fitting" else [FILE, f"{TOKENS}/part-00001.parquet"]
        written = {name: torn.fs.modified(torn.path(name)) for name in kept}
        assert tokenise(config(ENOUGH), inputs, torn) == facts
        for name in (FILE, TRIE, "history.json", "metrics.json"):
            assert torn.read(name) == whole.read(name), (phase, name)
        for table in (Sids, Inverse):
            assert table(torn).read().equals(table(whole).read()), (phase, table)
        assert {name: torn.fs.modified(torn.path(name)) for name in kept} == written
    with torn.write(FILE) as file:
        file.write(b"torn")
    with pytest.raises(StorageError, match=r"tokenizer\.safetensors is corrupt.*delete"):
        tokenise(config(), inputs, torn)


def test_without_ranks_items_that_share_tokens_share_the_text(inputs: dict[str, StageDir], tmp_path: Path) -> None:
    out, _ = run(inputs, tmp_path, "tokenizer.disambiguate=false")
    assert {sid_text(row) for row in tokens_of(out)} == set(Sids(out).read().column("sid").to_pylist())


def test_training_never_ends_worse_and_the_regulariser_evens_usage(inputs: dict[str, StageDir], tmp_path: Path) -> None:
    out, _ = run(inputs, tmp_path, "tokenizer.steps=60")
    losses = [row["loss"] for row in out.read_json("history.json")]
    assert min(losses) < losses[0]
    even, _ = run(inputs, tmp_path, "tokenizer.steps=60", "tokenizer.regulariser=1.0")
    free, _ = run(inputs, tmp_path, "tokenizer.steps=60", "tokenizer.regulariser=0")
    kl = [sum(level["kl"] for level in o.read_json("metrics.json")["levels"][1:]) for o in (even, free)]
    assert kl[0] < kl[1]


def test_more_clusters_than_items(inputs: dict[str, StageDir], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"tokenizer\.sizes.*5000 clusters for 2000 training items"):
        run(inputs, tmp_path, "tokenizer.sizes=[5000, 4]")
    with pytest.raises(ConfigError, match=r"16 clusters for 15 training items; choose sizes of at most 15"):
        require_items(config(), {"item_splits": {"train": 15, "held_place": 90}})
    require_items(config(), {"item_splits": {"train": 16}})


def test_a_catalogue_without_places_has_sids_of_content_alone(tmp_path: Path) -> None:
    table = items(400)
    for name in ("province", "city", "district", "lat", "lon"):
        place = table.column_names.index(name)
        table = table.set_column(place, name, pa.nulls(400, table.schema.field(name).type))
    out, facts = run(world(tmp_path / "w", table, vectors(400)), tmp_path, CHOSEN)
    assert facts["level_1"] == "embeddings"
    assert facts["items"] == Sids(out).count() == 400
    assert np.array_equal(Tokenizer.load(out).encode(None, vectors(400)), tokens_of(out))


def test_embeddings_of_another_catalogue_are_refused(inputs: dict[str, StageDir], tmp_path: Path) -> None:
    other = world(tmp_path / "w", items(300), vectors(300))
    with pytest.raises(StorageError, match="do not belong together: 2000 items, 300 embeddings"):
        run({**inputs, "vectors": other["vectors"]}, tmp_path)


def test_all_items_alike_is_refused_as_collapse(tmp_path: Path) -> None:
    alike = world(tmp_path / "a", items(300), np.tile(vectors(1), (300, 1)))
    with pytest.raises(GateError, match=r"level 2 of the tokenizer uses 8\.3%.*collapsed"):
        run(alike, tmp_path, "tokenizer.min_usage=0.2")  # though its codes can be shared out

    table = items(300, spread=0.0)
    for name in ("province", "city", "district", "category_1", "category_2", "brand"):
        table = table.set_column(table.column_names.index(name), name, pa.array(["x"] * 300))
    alike = world(tmp_path / "w", table, np.tile(vectors(1), (300, 1)))
    with pytest.raises(GateError, match="collapsed"):
        run(alike, tmp_path, "tokenizer.min_usage=0.2")
    out, facts = run(alike, tmp_path, "tokenizer.min_usage=0", CHOSEN)
    assert facts["distinct_sids"] == 1
    assert len(set(Sids(out).read().column("sid").to_pylist())) == 300


def test_one_item(tmp_path: Path) -> None:
    out, _ = run(world(tmp_path / "w", items(1), vectors(1)), tmp_path, "tokenizer.sizes=[1, 1]")
    assert Sids(out).read().column("sid").to_pylist() == ["<a_0><b_0>"]
