"""The policy: the reference at step 0, only adapters learn, and what is saved is what was trained."""

from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from lgsid_ray.align.policy import Policy, save_policy
from lgsid_ray.align.reward import RewardModel, margins
from lgsid_ray.config.align import GdpoConfig
from lgsid_ray.config.encoder import EncoderConfig
from lgsid_ray.encoder.model import TextEncoder, load_model, pool, tokenise_batch
from lgsid_ray.errors import ConfigError, StorageError
from lgsid_ray.execution.storage import StageDir

PROMPTS = [
    "Golden Dragon, brand Dragon & Co, restaurant, price 12.5, district Soho, city New York, province New York",
    "Corner Laundry, district Loop, city Chicago, province Illinois",
    "Blue Bottle Coffee, café, district Mission, city San Francisco, province California",
    "x",
    "Library, " + ", ".join(f"shelf {number}" for number in range(200)),  # longer than max_tokens
]


def trained_weights(policy: Policy) -> dict[str, torch.Tensor]:
    """LoRA matrices that are no longer zero, as an engine returns them."""
    generator = torch.Generator().manual_seed(0)
    return {
        name: 0.3 * torch.randn(parameter.shape, generator=generator)
        for name, parameter in policy.named_parameters()
        if parameter.requires_grad
    }


def test_before_the_first_step_the_policy_is_the_reference() -> None:
    """Also while training, with dropout on: the adapters' second matrix is zero."""
    encoder = EncoderConfig()
    reference = torch.from_numpy(TextEncoder(encoder).encode(PROMPTS))
    policy = Policy(encoder, GdpoConfig(lora_dropout=0.5))
    assert torch.allclose(policy(PROMPTS).detach(), reference, atol=1e-6)
    assert torch.allclose(policy.embed(PROMPTS, batch_size=2), reference, atol=1e-6)
    judge = RewardModel(reference.shape[1], 16, "pair")
    triple = policy(PROMPTS[:3]).detach()
    moved = margins(judge, *triple[:, None]) - margins(judge, *reference[:3, None])
    assert moved.abs().max() < 1e-5


def test_only_the_adapters_learn_and_only_they_drop_out(tiny_model: str) -> None:
    policy = Policy(EncoderConfig(model=tiny_model), GdpoConfig(lora_dropout=0.5, lora_targets=["query"], lora_rank=3))
    before = {name: value.clone() for name, value in policy.state_dict().items()}
    learning = {name: p for name, p in policy.named_parameters() if p.requires_grad}
    assert learning
    assert all("lora_" in name and ".query." in name and 3 in p.shape for name, p in learning.items())
    with torch.no_grad():
        for parameter in learning.values():
            parameter.add_(0.1)
    assert not torch.allclose(policy(PROMPTS), policy(PROMPTS))
    assert torch.equal(policy.embed(PROMPTS), policy.embed(PROMPTS))
    assert not torch.allclose(policy(PROMPTS), policy(PROMPTS)), "embed switches dropout on again"
    optimiser = torch.optim.AdamW([p for p in policy.parameters() if p.requires_grad], lr=0.1)
    policy(PROMPTS).sum().backward()
    optimiser.step()
    moved = {name for name, value in policy.state_dict().items() if not torch.equal(value, before[name])}
    assert moved == set(learning)


def test_bfloat16_is_near_and_gives_float32() -> None:
    """Forward and backward in bfloat16, weights and embeddings in float32."""
    exact, rough = (Policy(EncoderConfig(), GdpoConfig(dtype=dtype)) for dtype in ("float32", "bfloat16"))
    one, other = exact.embed(PROMPTS), rough.embed(PROMPTS)
    assert other.dtype == torch.float32
    assert not torch.equal(one, other)
    assert (one * other).sum(1).min() > 0.999
    assert all(p.dtype == torch.float32 for p in rough.parameters())


@pytest.mark.parametrize("targets", [["k_proj"], ["key", "valeu"], []])
def test_names_that_no_module_bears_are_refused(targets: list[str]) -> None:
    with pytest.raises(ConfigError, match=r"align\.lora_targets.*minilm"):
        Policy(EncoderConfig(), GdpoConfig(lora_targets=targets))


@pytest.mark.parametrize("pooling", ["mean", "cls", "last"])
def test_the_saved_model_is_the_trained_policy(
    tmp_path: Path, tiny_model: str, pooling: Literal["mean", "cls", "last"]
) -> None:
    from peft import PeftModel
    from sentence_transformers import SentenceTransformer

    encoder = EncoderConfig(model=tiny_model, pooling=pooling, max_tokens=40)
    align = GdpoConfig(lora_rank=4, lora_alpha=4)
    policy = Policy(encoder, align)
    untrained = policy.embed(PROMPTS)
    weights = trained_weights(policy)
    policy.load_state_dict(weights, strict=False)
    expected = policy.embed(PROMPTS)
    assert (untrained * expected).sum(1).max() < 0.99, "the adapters must matter for this test to say anything"
    out = StageDir(str(tmp_path))
    save_policy(encoder, align, weights, out)

    model = SentenceTransformer(out.path("model"), device="cpu")
    found = model.encode(PROMPTS, convert_to_tensor=True)
    assert torch.allclose(found, expected, atol=1e-5)
    found = torch.from_numpy(TextEncoder(encoder, path=out.path("model")).encode(PROMPTS))
    assert torch.allclose(found, expected, atol=1e-5)

    tokenizer, base = load_model(encoder.model)
    adapted = PeftModel.from_pretrained(base, out.path("adapter")).eval()
    batch = tokenise_batch(tokenizer, PROMPTS, encoder.max_tokens)
    with torch.no_grad():
        found = pool(adapted(**batch).last_hidden_state, batch["attention_mask"], pooling)
    assert torch.allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("change", ["missing", "foreign"])
def test_weights_that_are_not_the_policys_are_refused(tmp_path: Path, tiny_model: str, change: str) -> None:
    encoder, align = EncoderConfig(model=tiny_model), GdpoConfig()
    weights = trained_weights(Policy(encoder, align))
    name, value = weights.popitem()
    if change == "foreign":
        weights |= {name: value, f"{name}.other": value}
    with pytest.raises(StorageError, match=r"matrices (1 were not trained, and 0|0 were not trained, and 1) others"):
        save_policy(encoder, align, weights, StageDir(str(tmp_path)))
    assert not any(tmp_path.iterdir())


def test_weights_are_saved_as_safetensors_and_nothing_as_pickle(tmp_path: Path) -> None:
    encoder, align = EncoderConfig(), GdpoConfig()
    weights = trained_weights(Policy(encoder, align))
    save_policy(encoder, align, weights, StageDir(str(tmp_path)))
    files = [file for file in tmp_path.rglob("*") if file.is_file()]
    assert {file.suffix for file in files} <= {".safetensors", ".json", ".txt", ".md"}
    assert {str(file.relative_to(tmp_path)) for file in files if file.suffix == ".safetensors"} == {
        "adapter/adapter_model.safetensors",
        "model/model.safetensors",
    }
    saved = load_file(tmp_path / "adapter/adapter_model.safetensors")
    assert len(saved) == len(weights)
    for name, value in saved.items():
        mine = f"network.{name.removesuffix('.weight')}.default.weight"
        assert np.array_equal(value.numpy(), weights[mine].numpy()), name


def test_a_share_of_the_adapters_is_saved_as_it_was_looked_at(tiny_model: str, tmp_path: Path) -> None:
    encoder, align = EncoderConfig(model=tiny_model), GdpoConfig(lora_dropout=0)
    policy = Policy(encoder, align)
    reference = policy.embed(PROMPTS)
    weights = trained_weights(policy)
    policy.load_state_dict(weights, strict=False)
    whole = policy.embed(PROMPTS)
    policy.scale(0.4)
    some = policy.embed(PROMPTS)
    save_policy(encoder, align, weights, StageDir(str(tmp_path)), 0.4)
    saved = torch.from_numpy(TextEncoder(encoder, f"{tmp_path}/model").encode(PROMPTS))
    assert torch.allclose(saved, some, atol=1e-5)
    policy.scale(1.0)
    assert torch.allclose(policy.embed(PROMPTS), whole)
    policy.scale(0.0)
    assert torch.allclose(policy.embed(PROMPTS), reference, atol=1e-6)
    assert not torch.allclose(some, whole, atol=1e-3)
