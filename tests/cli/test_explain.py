"""`lgsid explain` on a finished run that the test writes itself: no Ray, no torch, no model."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from click.testing import Result
from typer.testing import CliRunner

from lgsid_ray.artifacts import Embeddings, Items, Sids, Trie
from lgsid_ray.artifacts.embeddings import column
from lgsid_ray.cli.app import app
from lgsid_ray.config import load
from lgsid_ray.execution.run import Manifest
from lgsid_ray.execution.storage import StageDir
from lgsid_ray.tokenizer.codec import sid_text

COUNT = 40
PRINTS = {"catalogue": "c" * 16, "embed": "e" * 16, "tokenise/hgit": "a" * 16, "tokenise/plain": "b" * 16}


def lgsid(*words: str) -> Result:
    return CliRunner(env={"COLUMNS": "160", "TERM": "dumb"}).invoke(app, ["explain", *words])


def write_tables(home: StageDir, located: bool) -> None:
    """Two towns of twenty, one the first token's 0, one its 1; the second token says bakery or bar."""
    row = np.arange(COUNT)
    town, bar = row // 20, row % 2
    columns: dict[str, Any] = {field.name: pa.nulls(COUNT, field.type) for field in Items.schema}
    columns |= {"item_index": row, "item_id": [f"i{one}" for one in row], "split": ["train"] * COUNT}
    columns |= {"name": [f"[b]{['Bakery', 'Bar'][b]}[/b] {one}" for one, b in zip(row, bar, strict=True)]}
    columns |= {"category_1": [["Bakery", "Bar"][b] for b in bar], "price": row / 2}
    if located:
        columns |= {"lat": 47.0 + town, "lon": 7 + row / 100, "province": ["Bern"] * COUNT}
        columns |= {"city": [["Thun", "Biel"][t] for t in town]}
    catalogue = home.child(f"catalogue/{PRINTS['catalogue']}")
    Items(catalogue).write(pa.table(columns), "part-00000.parquet")
    vectors = np.eye(COUNT, dtype=np.float32) + bar[:, None]
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    keys = {"item_index": row, "item_id": columns["item_id"]}
    Embeddings(home.child(f"embed/{PRINTS['embed']}")).write(
        pa.table({**keys, "embedding": column(vectors)}), "part-0.parquet"
    )
    for stage, tokens in (("hgit", [town, bar, row % 4]), ("plain", [bar, town, row % 4])):
        rows = np.stack(tokens, axis=1).tolist()
        sids = {**keys, "tokens": rows, "collision": [0] * COUNT, "sid": [sid_text(one) for one in rows]}
        folder = home.child(f"tokenise/{stage}/{PRINTS[f'tokenise/{stage}']}")
        Sids(folder).write(pa.table(sids), "part-0.parquet")
        Trie.build(np.array(rows)).save(folder)


def finish(home: StageDir, stage: str, **change: Any) -> None:
    """Write the manifest of a stage, by which it is finished."""
    told = {"stage": stage, "fingerprint": PRINTS[stage], "version": "0", "config": {}, "cell": None, "seed": 0}
    told |= {"inputs": {"catalogue": PRINTS["catalogue"], "vectors": PRINTS["embed"]}, "sources": [], "code": {}}
    told |= {"facts": {}, "seconds": 1.0, "peak_memory_mb": 1.0, "finished": "2026-01-01T00:00:00+00:00", **change}
    out = home.child(f"{stage}/{told['fingerprint']}")
    out.write_json("manifest.json", Manifest.model_validate(told).model_dump(mode="json"))


@pytest.fixture
def home(tmp_path: Path, located: bool) -> StageDir:
    found = StageDir(str(tmp_path / "run")).make()
    found.write_json("config.json", load(None).model_dump(mode="json", by_alias=True))
    write_tables(found, located)
    for stage in PRINTS:
        finish(found, stage)
    return found


@pytest.fixture
def located() -> bool:
    return True


def test_an_item_is_told_with_its_prefixes_siblings_and_what_they_say(home: StageDir) -> None:
    result = lgsid("i6", "--out", home.root)
    assert result.exit_code == 0, result.output
    lines = [" ".join(line.split()) for line in result.stdout.splitlines()]
    assert lines[0] == "i6: [b]Bakery[/b] 6"  # no markup
    assert lines[1] == "Thun, Bern · 47.0000, 7.0600 · category_1 Bakery · price 3 · split train"
    assert lines[2] == f"SID <a_0><b_0><c_2>, by tokenise/hgit/{PRINTS['tokenise/hgit']}"
    assert "<a_0>: 20 of the 40 items of the catalogue share it, half of the others within 3.8 km" in lines
    assert any(line.startswith("city Thun 100% 0% ") for line in lines)
    assert any(line.startswith("i5 [b]Bar[/b] 5 Bar 0.76 ") for line in lines)
    assert any(line.startswith("<a_0><b_0>: 10 of the 20 items of <a_0> share it") for line in lines)
    assert any(line.startswith("category_1 Bakery 100% 0% ") for line in lines)
    assert any(line.startswith("<a_0><b_0><c_2>: 5 of the 10 items of <a_0><b_0> share it") for line in lines)


@pytest.mark.parametrize("located", [False])
def test_a_catalogue_without_coordinates_is_told_without_kilometres(home: StageDir) -> None:
    result = lgsid("i6", "--out", home.root)
    assert result.exit_code == 0, result.output
    assert "km" not in result.stdout
    assert "similarity" in result.stdout
    assert "<a_0>: 20 of the 40 items of the catalogue share it; no word or label tells them" in result.stdout


def test_several_items_and_another_tokenizer(home: StageDir) -> None:
    result = lgsid("i6", "i21", "i6", "--out", home.root, "--tokenizer", "plain")
    assert result.exit_code == 0, result.output
    assert result.stdout.count("  SID ") == 2
    assert f"SID <a_1><b_1><c_1>, by tokenise/plain/{PRINTS['tokenise/plain']}" in result.stdout


def test_of_a_sid_or_a_prefix_the_items_behind_it(home: StageDir) -> None:
    result = lgsid("<a_0><b_1>", "<a_1><b_0><c_2>", "--out", home.root)
    assert result.exit_code == 0, result.output
    lines = [" ".join(line.split()) for line in result.stdout.splitlines()]
    assert "<a_0><b_1>: 10 items" in lines
    assert "<a_0><b_1><c_1> i1 [b]Bar[/b] 1 Bar Thun, Bern" in lines
    behind = lines[lines.index("<a_1><b_0><c_2>: 5 items") :]
    told = [line.split()[1] for line in behind if line.startswith("<a_1><b_0><c_2> ")]
    assert told == ["i22", "i26", "i30", "i34", "i38"]
    assert "of which the first 20" not in result.stdout


def test_of_many_items_behind_a_prefix_the_first_are_shown(home: StageDir) -> None:
    for stage in ("hgit", "plain"):
        folder = home.child(f"tokenise/{stage}/{PRINTS[f'tokenise/{stage}']}")
        Trie.build(np.stack([np.zeros(COUNT, np.int64), np.arange(COUNT)], axis=1)).save(folder)
    result = lgsid("<a_0>", "--out", home.root)
    assert "<a_0>: 40 items, of which the first 20" in result.stdout
    assert result.stdout.count("Thun") == 20


@pytest.mark.parametrize("sid", ["<a_7>", "<a_0><b_0><c_1>", "<a_0><b_0><c_2><x_1>", "<a_0><x_1>"])
def test_a_sid_that_no_item_has_exits_3(home: StageDir, sid: str) -> None:
    result = lgsid(sid, "--out", home.root)
    assert result.exit_code == 3
    assert f"no item has the SID '{sid}', nor one that begins with it" in result.stderr


def test_of_several_results_that_of_the_latest_runs_settings_or_the_one_that_is_named(home: StageDir) -> None:
    kept = home.child(f"tokenise/hgit/{PRINTS['tokenise/hgit']}").root
    shutil.copytree(kept, home.path("tokenise/hgit/other"))
    finish(home, "tokenise/hgit", fingerprint="other", finished="2026-02-02T00:00:00+00:00")
    assert "by tokenise/hgit/other" in lgsid("i6", "--out", home.root).stdout  # neither has the settings: the later
    finish(home, "tokenise/hgit", config={"tokenizer": load(None).tokenizer.identity()})
    assert f"by tokenise/hgit/{PRINTS['tokenise/hgit']}" in lgsid("i6", "--out", home.root).stdout
    assert "by tokenise/hgit/other" in lgsid("i6", "--out", home.root, "--tokenizer", "hgit/other").stdout


def test_an_unknown_item_exits_3_and_others_like_it_are_named(home: StageDir) -> None:
    result = lgsid("[b]Bar[/b] 7", "i6", "zzz", "--out", home.root)
    assert result.exit_code == 3
    assert "i6: [b]Bakery[/b] 6" in result.stdout  # the known one is told all the same
    told = result.stderr.splitlines()
    assert told[0] == "error: no item has the id '[b]Bar[/b] 7'; most like it, by id or name, are"
    assert told[1] == "  i7: [b]Bar[/b] 7, Bar, Thun"
    assert told[-1].startswith("no item has the id 'zzz', nor a name like it; see the column item_id of ")


def test_an_unknown_tokenizer_exits_2_and_the_finished_ones_are_named(home: StageDir) -> None:
    for name in ("nope", "hgit/0123"):
        result = lgsid("i6", "--out", home.root, "--tokenizer", name)
        assert result.exit_code == 2
        assert f"has no finished tokenise/{name}; name another with --tokenizer: hgit, plain" in result.stderr


def test_no_run_no_finished_stage_and_a_missing_table_exit_5_with_a_remedy(home: StageDir, tmp_path: Path) -> None:
    nowhere = lgsid("i6", "--out", str(tmp_path / "nowhere"))
    assert (nowhere.exit_code, "name one with --out" in nowhere.stderr) == (5, True)
    home.remove(f"catalogue/{PRINTS['catalogue']}/items")
    torn = lgsid("i6", "--out", home.root)
    assert (torn.exit_code, "is missing or empty; delete" in torn.stderr) == (5, True)
    home.remove("tokenise")
    early = lgsid("i6", "--out", home.root)
    assert (early.exit_code, "run lgsid tokenise with --out" in early.stderr) == (5, True)


def test_it_loads_neither_ray_nor_torch(home: StageDir) -> None:
    program = (
        "import json, sys\nfrom lgsid_ray.cli import main\n"
        f"sys.argv = ['lgsid', 'explain', 'i6', '--out', {home.root!r}]\n"
        "try:\n    main()\nexcept SystemExit as end:\n    assert not end.code\n"
        "print(json.dumps(list(sys.modules)), file=sys.stderr)"
    )
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=120)
    assert {"faiss", "ray", "torch", "sklearn"}.isdisjoint(json.loads(ended.stderr.splitlines()[-1]))
