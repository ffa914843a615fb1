"""Encoders against references: sentence-transformers, a plain loop, one prompt at a time; what is refused by name."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from safetensors.torch import load_file, save_file

from lgsid_ray.align.policy import Policy, save_policy
from lgsid_ray.artifacts import Items
from lgsid_ray.config.align import GdpoConfig
from lgsid_ray.config.encoder import EncoderConfig, PromptConfig
from lgsid_ray.encoder.local import local_copy
from lgsid_ray.encoder.model import (
    RandomProjection,
    TextEncoder,
    identity,
    load_model,
    locate_model,
    make_encoder,
    pool,
)
from lgsid_ray.encoder.prompts import full_prompts
from lgsid_ray.errors import ConfigError, StorageError
from lgsid_ray.execution.storage import StageDir

PROMPTS = [
    "Corner Laundry, district Loop, city Chicago, province Illinois",
    "Golden Dragon, brand Dragon & Co, restaurant, price 12.5, district Soho, city New York, province New York",
    "x",
    "Blue Bottle Coffee, café, district Mission, city San Francisco, province California",
    "",
    "金龙餐厅, 上海",
    "Library, " + ", ".join(f"shelf {number}" for number in range(200)),  # longer than max_tokens
]
WORDS = ["<pad>", "<unk>", "<eos>", "a", "b", "c", "d", "e", "f", "g", "h"]
LETTERS = ["a b c d e f g", "h", "b c", "a b c d", "g f e d c b a h"]


def save_tokenizer(folder: Path, side: str = "right", **special: str) -> None:
    """A word-level tokenizer of a few letters, without a padding token unless `special` names one."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = Tokenizer(models.WordLevel({word: number for number, word in enumerate(WORDS)}, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, padding_side=side, unk_token="<unk>", **special)
    tokenizer.save_pretrained(folder)


def save_decoder(folder: Path, kind: str = "gpt2", side: str = "right", seed: int = 0) -> str:
    """A random decoder of two layers, saved as safetensors."""
    from transformers import GPT2Config, GPT2Model, LlamaConfig, LlamaModel

    torch.manual_seed(seed)
    if kind == "gpt2":
        model: Any = GPT2Model(GPT2Config(vocab_size=len(WORDS), n_embd=16, n_layer=2, n_head=2, n_positions=16))
    else:
        sizes = {"num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 2}
        model = LlamaModel(
            LlamaConfig(
                vocab_size=len(WORDS), hidden_size=16, intermediate_size=32, max_position_embeddings=16, **sizes
            )
        )
    model.save_pretrained(folder)
    save_tokenizer(folder, side, eos_token="<eos>")
    return str(folder)


def decoder(folder: str, **settings: Any) -> EncoderConfig:
    return EncoderConfig(model=folder, **{"pooling": "last", "max_tokens": 16, **settings})


@pytest.fixture(scope="module")
def minilm() -> TextEncoder:
    return TextEncoder(EncoderConfig(batch_size=3))


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("pooling", ["mean", "cls", "last"])
def test_pool_equals_a_plain_loop(pooling: str, side: str) -> None:
    rng = np.random.default_rng(0)
    lengths = [1, 4, 7, 3]
    hidden = rng.standard_normal((4, 7, 5)).astype(np.float32)
    mask = np.zeros((4, 7), dtype=np.int64)
    expected = []
    for row, length in enumerate(lengths):
        tokens = slice(0, length) if side == "right" else slice(7 - length, 7)
        mask[row, tokens] = 1
        real = hidden[row, tokens]
        vector = {"mean": real.sum(axis=0) / length, "cls": real[0], "last": real[-1]}[pooling]
        expected.append(vector / np.sqrt((vector**2).sum()))
    found = pool(torch.from_numpy(hidden), torch.from_numpy(mask), pooling)
    assert np.allclose(found.numpy(), expected, atol=1e-6)
    half = pool(torch.from_numpy(hidden).bfloat16(), torch.from_numpy(mask), pooling)
    assert half.dtype == torch.float32
    assert torch.allclose(half.norm(dim=1), torch.ones(4), atol=1e-6), "normalised in float32, not in bfloat16"


@pytest.mark.parametrize("max_tokens", [24, 128])
def test_the_packaged_model_agrees_with_sentence_transformers(max_tokens: int) -> None:
    from sentence_transformers import SentenceTransformer

    reference = SentenceTransformer(locate_model("minilm"), device="cpu")
    reference.max_seq_length = max_tokens
    expected = reference.encode(PROMPTS, normalize_embeddings=True)
    found = TextEncoder(EncoderConfig(max_tokens=max_tokens)).encode(PROMPTS)
    assert found.shape == (len(PROMPTS), 384)
    assert found.dtype == np.float32
    assert np.allclose(found, expected, atol=1e-5)
    assert ((found * expected).sum(axis=1) > 1 - 1e-5).all()


def test_neither_the_order_nor_the_batch_matters(minilm: TextEncoder) -> None:
    whole = minilm.encode(PROMPTS)
    order = np.random.default_rng(0).permutation(len(PROMPTS))
    assert np.allclose(minilm.encode([PROMPTS[row] for row in order]), whole[order], atol=1e-5)
    assert np.allclose(np.concatenate([minilm.encode([prompt]) for prompt in PROMPTS]), whole, atol=1e-5)
    assert minilm.encode([]).shape == (0, 384)


def test_equal_prompts_go_through_the_model_once_a_call(minilm: TextEncoder) -> None:
    batches: list[int] = []
    spy = minilm.model.register_forward_pre_hook(
        lambda _, __, given: batches.append(len(given["input_ids"])), with_kwargs=True
    )
    found = minilm.encode([PROMPTS[row] for row in (2, 0, 2, 2, 3, 0, 5)])
    spy.remove()
    assert sorted(batches) == [1, 3], "four distinct prompts in batches of batch_size=3"
    assert np.array_equal(found[0], found[2])
    assert np.array_equal(found[0], found[3])
    assert np.allclose(found, minilm.encode(PROMPTS)[[2, 0, 2, 2, 3, 0, 5]], atol=1e-5)


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("kind", ["gpt2", "llama"])
def test_a_decoder_pools_the_last_token_whatever_its_tokenizer_pads(tmp_path: Path, kind: str, side: str) -> None:
    """The reference is the model on each prompt alone, where there is no padding to be misled by."""
    folder = save_decoder(tmp_path, kind, side)
    encoder = TextEncoder(decoder(folder, batch_size=4))
    assert encoder.tokenizer.pad_token == "<eos>"
    expected = []
    for prompt in LETTERS:
        ids = torch.tensor([[WORDS.index(word) for word in prompt.split()]])
        with torch.no_grad():
            expected.append(encoder.model(input_ids=ids).last_hidden_state[0, -1].numpy())
    expected = np.stack(expected) / np.linalg.norm(expected, axis=1, keepdims=True)
    assert encoder.dimension == 16
    assert np.allclose(encoder.encode(LETTERS), expected, atol=1e-5)


def test_bfloat16_is_near_and_gives_normalised_float32(tmp_path: Path, minilm: TextEncoder) -> None:
    folder = save_decoder(tmp_path)
    pairs = [
        (minilm, EncoderConfig(dtype="bfloat16"), PROMPTS),
        (TextEncoder(decoder(folder)), decoder(folder, dtype="bfloat16"), LETTERS),
    ]
    for exact, config, prompts in pairs:
        rough = TextEncoder(config)
        assert {parameter.dtype for parameter in rough.model.parameters()} == {torch.float32}
        one, other = exact.encode(prompts), rough.encode(prompts)
        assert other.dtype == np.float32
        assert np.allclose(np.linalg.norm(other, axis=1), 1, atol=1e-6)
        assert not np.array_equal(one, other)
        assert (one * other).sum(axis=1).min() > 0.995


def test_every_field_changes_the_vectors_or_is_known_not_to(tmp_path: Path) -> None:
    rows = [{"name": "a b", "brand": "c", "price": 3.0, "city": "d e f g h a b c d", "province": "h"}, {"name": "g"}]
    table = pa.table({f.name: pa.array([row.get(f.name) for row in rows], f.type) for f in Items.schema})
    model, other = save_decoder(tmp_path / "one"), save_decoder(tmp_path / "other", seed=1)
    base: dict[str, Any] = {"model": model, "max_tokens": 16, "pooling": "mean"}

    def vectors(**changed: Any) -> np.ndarray:
        config = EncoderConfig(**{**base, **changed})
        return make_encoder(config).encode(full_prompts(table, config.prompt))

    changes: dict[str, list[Any]] = {
        "kind": ["random_projection"],
        "model": [other],
        "pooling": ["cls", "last"],
        "max_tokens": [8],
        "dtype": ["bfloat16"],
        "prompt": [
            PromptConfig(content=["{brand}"]),
            PromptConfig(location=["{city}"]),
            PromptConfig(separator=" a "),
        ],
    }
    how_it_is_run = {"batch_size": 1, "rows": 1, "actors": 1, "gpus_per_actor": 1}
    only_of_random_projection = {"dimension": 32}
    assert set(EncoderConfig.model_fields) == {*changes, *how_it_is_run, *only_of_random_projection}
    plain = vectors()
    for field, values in changes.items():
        for value in values:
            found = vectors(**{field: value})
            assert found.shape != plain.shape or np.abs(found - plain).max() > 1e-4, (field, value)
    for field, value in how_it_is_run.items():
        assert np.allclose(vectors(**{field: value}), plain, atol=1e-5), field
    assert vectors(kind="random_projection", dimension=32).shape == (2, 32)


def test_random_projection_is_the_same_in_every_process() -> None:
    prompts = ["Golden Dragon, city New York", "a", "", "Dragon Golden"]
    code = (
        "import sys, json; from lgsid_ray.encoder.model import RandomProjection;"
        "print(RandomProjection(24).encode(json.loads(sys.argv[1])).tobytes().hex())"
    )
    encoder = RandomProjection(24)
    encoder.encode(["other words first"])
    mine = encoder.encode(prompts)
    for seed in ("1", "2"):
        environment = {**os.environ, "PYTHONHASHSEED": seed}
        command = [sys.executable, "-c", code, json.dumps(prompts)]
        done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
        assert done.stdout.strip() == mine.tobytes().hex()


def test_random_projection_is_a_normalised_bag_of_words() -> None:
    found = RandomProjection(64).encode(["a b c d", "d c b a", "a b c x", "w y z v", "", "a"])
    assert found.dtype == np.float32
    assert np.allclose(np.linalg.norm(found, axis=1), 1, atol=1e-6), "also of a prompt without words"
    assert np.allclose(found[0], found[1], atol=1e-6)
    assert found[0] @ found[2] > 0.5 > abs(found[0] @ found[3])
    words = RandomProjection(64).encode(["a", "b"])
    assert np.array_equal(words[0], found[5])
    assert not np.allclose(words[0], words[1])


def test_random_projection_forgets_words_but_not_their_directions(monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = RandomProjection(8)
    first = encoder.encode(["a"])
    monkeypatch.setattr(encoder, "_words", {str(word): np.zeros(8) for word in range(200_001)})
    assert np.array_equal(encoder.encode(["a"]), first)
    assert len(encoder._words) == 1


def test_identity_changes_with_what_the_vectors_depend_on(tmp_path: Path) -> None:
    model = save_decoder(tmp_path / "one")
    base = decoder(model)
    changed = [
        base.model_copy(update=update)
        for update in (
            {"kind": "random_projection"},
            {"model": "minilm"},
            {"pooling": "mean"},
            {"max_tokens": 12},
            {"dtype": "bfloat16"},
            {"prompt": PromptConfig(content=["{name}"])},
            {"prompt": PromptConfig(location=["{city}"])},
            {"prompt": PromptConfig(separator=" ")},
        )
    ]
    records = [json.dumps(identity(config), sort_keys=True) for config in [base, *changed]]
    assert len(set(records)) == len(records)
    for update in ({"batch_size": 1}, {"actors": 7}, {"rows": 3}, {"gpus_per_actor": 0.5}):
        assert identity(base.model_copy(update=update)) == identity(base), update


def test_identity_changes_with_the_weights_and_with_nothing_else_in_the_folder(tmp_path: Path) -> None:
    model, other = save_decoder(tmp_path / "one"), save_decoder(tmp_path / "other", seed=1)
    base = decoder(model)
    before = identity(base)
    assert identity(base, path=other) != before
    assert identity(base, path=model) == before
    (tmp_path / "one/README.md").write_text("a word about the model")
    assert identity(base) == before
    weights = load_file(f"{model}/model.safetensors")
    weights["wte.weight"][0, 0] += 1e-3
    save_file(weights, f"{model}/model.safetensors", metadata={"format": "pt"})
    assert identity(base) != before
    shutil.copy(f"{other}/model.safetensors", f"{model}/model.safetensors")
    assert identity(base)["weights"] == identity(base, path=other)["weights"]


def drop_layer(folder: Path) -> None:
    file = folder / "model.safetensors"
    kept = {name: value for name, value in load_file(file).items() if not name.startswith("h.1.")}
    save_file(kept, file, metadata={"format": "pt"})


def truncate(folder: Path) -> None:
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])


def widen(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "n_embd": 32}))


def drop_tokenizer(folder: Path) -> None:
    for file in folder.glob("tokenizer*"):
        file.unlink()


@pytest.mark.parametrize(
    ("harm", "reason"),
    [
        (shutil.rmtree, "cannot be loaded"),
        (lambda folder: (folder / "model.safetensors").unlink(), r"model\.safetensors"),
        (lambda folder: (folder / "config.json").write_text("{"), "JSON"),
        (truncate, "cannot be loaded"),
        (widen, "cannot be loaded"),
        (drop_layer, r"lack 12 weights.*h\.1\."),
        (drop_tokenizer, "tokenizer"),
        (save_tokenizer, "neither a padding nor an end token"),
    ],
    ids=["absent", "no weights", "config", "truncated", "shapes", "layer", "no tokenizer", "no padding"],
)
def test_a_model_that_cannot_be_loaded_is_refused_by_name(tmp_path: Path, harm: Any, reason: str) -> None:
    model = save_decoder(tmp_path / "harmed")
    harm(Path(model))
    with pytest.raises(ConfigError, match=f"(?s)encoder.model {model}: .*{reason}"):
        TextEncoder(decoder(model))


class Trap:
    """Unpickled, it leaves a file behind."""

    def __init__(self, sprung: Path) -> None:
        self.sprung = sprung

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.sprung),)


def test_pickled_weights_are_refused_unopened(tmp_path: Path) -> None:
    model, sprung = Path(save_decoder(tmp_path / "pickled")), tmp_path / "sprung"
    weights = load_file(model / "model.safetensors")
    (model / "model.safetensors").unlink()
    torch.save(weights, model / "pytorch_model.bin")
    with pytest.raises(ConfigError, match=f"encoder.model {model}: .*safetensors"):
        load_model(str(model))
    torch.save({**weights, "trap": Trap(sprung)}, model / "pytorch_model.bin")
    with pytest.raises(ConfigError, match=f"encoder.model {model}: .*safetensors"):
        load_model(str(model))
    assert not sprung.exists()


def test_code_that_comes_with_a_model_is_not_run(tmp_path: Path) -> None:
    model, sprung = Path(save_decoder(tmp_path / "remote")), tmp_path / "sprung"
    (model / "odd.py").write_text(f"import os\nos.mkdir({str(sprung)!r})\n")
    hooks = {"AutoConfig": "odd.OddConfig", "AutoModel": "odd.OddModel"}
    (model / "config.json").write_text(json.dumps({"model_type": "odd", "auto_map": hooks}))
    with pytest.raises(ConfigError, match=f"encoder.model {model}: "):
        load_model(str(model))
    assert not sprung.exists()


def test_a_model_without_a_pooler_is_taken(tmp_path: Path, minilm: TextEncoder) -> None:
    """Fine-tuned sentence encoders often come without it, and `pool` does not need it."""
    folder = tmp_path / "minilm"
    shutil.copytree(locate_model("minilm"), folder)
    weights = load_file(folder / "model.safetensors")
    kept = {name: value for name, value in weights.items() if not name.startswith("pooler.")}
    assert len(kept) < len(weights)
    save_file(kept, folder / "model.safetensors", metadata={"format": "pt"})
    found = TextEncoder(EncoderConfig(model=str(folder))).encode(PROMPTS)
    assert np.allclose(found, minilm.encode(PROMPTS), atol=1e-5)


def test_more_tokens_than_the_model_has_positions_is_refused(tmp_path: Path) -> None:
    model = save_decoder(tmp_path)
    with pytest.raises(ConfigError, match=r"encoder\.max_tokens 17: .*16 at most.*encoder\.max_tokens=16"):
        TextEncoder(decoder(model, max_tokens=17))
    assert TextEncoder(decoder(model)).encode(["a " * 40]).shape == (1, 16)


def test_a_local_folder_is_read_where_it_lies(tmp_path: Path) -> None:
    assert local_copy(StageDir(str(tmp_path)).child("model")) == f"{tmp_path}/model"


def test_a_remote_folder_is_copied_once_until_it_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    remote = StageDir("memory://bucket/run/align/model")
    remote.remove()
    content = {"config.json": b"{}", "1_Pooling/config.json": b"[]", "model.safetensors": bytes(range(256)) * 5000}

    def put(name: str, data: bytes) -> None:
        with remote.write(name) as file:
            file.write(data)

    for name, data in content.items():
        put(name, data)
    folder = Path(local_copy(remote))
    assert folder.parent == tmp_path
    assert {str(f.relative_to(folder)): f.read_bytes() for f in folder.rglob("*") if f.is_file()} == content
    stamp = (folder / "config.json").stat().st_mtime_ns
    assert local_copy(StageDir(remote.uri)) == str(folder)
    assert (folder / "config.json").stat().st_mtime_ns == stamp
    assert list(tmp_path.iterdir()) == [folder], "nothing is left beside the copy"
    put("config.json", b"{ }")
    again = Path(local_copy(remote))
    assert (again / "config.json").read_bytes() == b"{ }"
    assert (folder / "config.json").read_bytes() == b"{}", "an actor may still read the old copy"


def test_a_remote_folder_that_is_missing_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with pytest.raises(StorageError, match="memory://bucket/nowhere is missing"):
        local_copy(StageDir("memory://bucket/nowhere"))
    assert not list(tmp_path.iterdir())


def save_t5(folder: Path) -> str:
    """A random T5, both halves, with the letters' tokenizer."""
    from transformers import T5Config, T5Model

    torch.manual_seed(0)
    sizes = {"d_model": 16, "d_kv": 8, "d_ff": 32, "num_layers": 2, "num_heads": 2}
    T5Model(T5Config(vocab_size=len(WORDS), pad_token_id=0, decoder_start_token_id=0, **sizes)).save_pretrained(folder)
    save_tokenizer(folder, pad_token="<pad>", eos_token="<eos>")
    return str(folder)


def test_of_an_encoder_decoder_the_encoder_embeds(tmp_path: Path) -> None:
    from transformers import T5Model

    source = save_t5(tmp_path)
    found = TextEncoder(EncoderConfig(model=source, max_tokens=64)).encode(LETTERS)
    whole = T5Model.from_pretrained(source).eval()
    for text, vector in zip(LETTERS, found, strict=True):
        ids = torch.tensor([[WORDS.index(letter) for letter in text.split()]])
        with torch.inference_mode():
            hidden = whole.encoder(input_ids=ids).last_hidden_state
        expected = torch.nn.functional.normalize(hidden.mean(1), dim=-1)[0]
        np.testing.assert_allclose(vector, expected.numpy(), atol=1e-5)


def test_an_encoder_of_a_pair_is_aligned_and_saved_as_it_came(tmp_path: Path) -> None:
    source, out = save_t5(tmp_path / "t5"), StageDir(str(tmp_path / "out"))
    encoder = EncoderConfig(model=source, max_tokens=64)
    with pytest.raises(ConfigError, match=r"'key': .* has no modules of that name; its linear ones are k, o, q, v, wi"):
        Policy(encoder, GdpoConfig())
    align = GdpoConfig(lora_targets=["q", "v"], lora_rank=2)
    policy = Policy(encoder, align)
    weights = {name: p + 0.1 for name, p in policy.named_parameters() if p.requires_grad}
    save_policy(encoder, align, weights, out)
    with torch.no_grad():
        for name, parameter in policy.named_parameters():
            if name in weights:
                parameter.copy_(weights[name])
    again = TextEncoder(EncoderConfig(model=out.child("model").root, max_tokens=64)).encode(LETTERS)
    np.testing.assert_allclose(again, policy.embed(LETTERS).numpy(), atol=1e-5)


def test_of_a_robertas_positions_those_behind_the_paddings_are_left(tmp_path: Path) -> None:
    from transformers import RobertaConfig, RobertaModel

    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    RobertaModel(
        RobertaConfig(vocab_size=len(WORDS), max_position_embeddings=18, pad_token_id=1, **sizes)
    ).save_pretrained(tmp_path)
    save_tokenizer(tmp_path, pad_token="<unk>", eos_token="<eos>")
    with pytest.raises(ConfigError, match=r"max_tokens 17: .* takes 16 at most; set encoder.max_tokens=16 or less"):
        TextEncoder(EncoderConfig(model=str(tmp_path), max_tokens=17))
    encoder = TextEncoder(EncoderConfig(model=str(tmp_path), max_tokens=16))
    assert np.isfinite(encoder.encode(["a b c d e f g h " * 4])).all()
