"""The package from Python: what it offers, what it costs to import, and the example in README.md."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tokenizers
from tokenizers import decoders, models
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

import lgsid_ray
from lgsid_ray import Fusion, Tokenizer, parse_sid, unpack_sids
from lgsid_ray.execution.storage import StageDir
from lgsid_ray.tokenizer.levels import on_embeddings

README = Path(__file__).parents[1] / "README.md"


def loaded_by(statement: str) -> set[str]:
    """Which of the heavy packages a statement imports."""
    code = f"{statement}; import sys; print(*({{'ray', 'torch', 'transformers'}} & set(sys.modules)))"
    return set(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split())


def test_the_bare_package_imports_neither_torch_nor_ray() -> None:
    assert loaded_by("import lgsid_ray") == set()
    assert loaded_by("from lgsid_ray import Fusion, pack_sids, sid_text, sid_tokens") == set()
    assert loaded_by("from lgsid_ray import Fusion, Tokenizer") == {"torch"}


def test_it_offers_what_it_says_and_nothing_else() -> None:
    assert all(getattr(lgsid_ray, name) for name in lgsid_ray.__all__)
    with pytest.raises(AttributeError, match="no attribute 'Tokeniser'"):
        _ = lgsid_ray.Tokeniser


def test_the_examples_in_the_readme_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    section = README.read_text(encoding="utf-8").partition("## From Python")[2]
    code, added = re.findall("```python\n(.*?)```", section, re.DOTALL)
    rows = [{"item_id": f"i{row}", "name": f"cafe {row}", "city": "Bern", "lat": 46.9, "lon": 7.4} for row in range(3)]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "new-items.parquet")
    centres = np.random.default_rng(0).standard_normal((4, 384)).astype(np.float32)
    Tokenizer("res_kmeans", (on_embeddings(centres), on_embeddings(centres / 4))).save(tmp_path)
    Fusion.fitted(centres, 0.2).save(StageDir(str(tmp_path)))
    (tmp_path / "mine.yaml").write_text("seed: 1", encoding="utf-8")
    for ours, theirs in (
        ("runs/mine/fuse/FINGERPRINT", str(tmp_path)),
        ("runs/mine/tokenise/hgit/FINGERPRINT", str(tmp_path)),
        ("new-items.parquet", str(tmp_path / "new-items.parquet")),
        ("mine.yaml", str(tmp_path / "mine.yaml")),
    ):
        assert ours in code
        code = code.replace(f'"{ours}"', repr(theirs))
    names: dict[str, Any] = {}
    exec(compile(code, "README.md", "exec"), names)
    assert names["tokens"].shape == (3, 2)
    printed = capsys.readouterr().out
    assert [parse_sid(text)[0] for text in re.findall("'(.*?)'", printed)] == [tuple(row) for row in names["tokens"]]
    assert names["nearby_in_meaning"].shape == (3, 384)
    assert np.array_equal(unpack_sids(names["keys"], [4, 4]), names["tokens"])
    words = tokenizers.Tokenizer(models.WordLevel({"[UNK]": 0}, unk_token="[UNK]"))
    words.decoder = decoders.Fuse()
    names["vocabulary"] = PreTrainedTokenizerFast(tokenizer_object=words)
    names["model"] = GPT2LMHeadModel(GPT2Config(vocab_size=1, n_embd=4, n_layer=1, n_head=1))
    exec(compile(added, "README.md", "exec"), names)
    assert names["model"].get_input_embeddings().num_embeddings == len(names["vocabulary"]) == 1 + 4 + 4 + 9
    assert capsys.readouterr().out == f"{(tuple(names['tokens'][0].tolist()), 0)}\n"
