"""The policy: the language model with LoRA adapters, prompts in, L2-normalised embeddings out; and how it is saved."""

import tempfile
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from lgsid_ray.config.align import AlignBase
from lgsid_ray.config.encoder import EncoderConfig
from lgsid_ray.encoder.model import load_model, pool, tokenise_batch
from lgsid_ray.errors import ConfigError, StorageError
from lgsid_ray.execution.storage import StageDir

_SHORT = 128
"""Tokens up to which all weights of attention are held for the backward pass: some 60 kB a head and prompt."""


class Policy(nn.Module):
    """The encoder of `config` with trainable LoRA matrices on `align.lora_targets`; all else is frozen.

    The base network stays in evaluation mode, so that before the first step the policy is the reference exactly;
    only the adapters' dropout follows `train` and `eval`.

    Raises:
        ConfigError: the model has no modules of the names in `align.lora_targets`.
    """

    def __init__(self, encoder: EncoderConfig, align: AlignBase) -> None:
        super().__init__()
        from peft import LoraConfig, get_peft_model

        self.tokenizer, base = load_model(encoder.model)
        self._pooling, self._max_tokens = encoder.pooling, encoder.max_tokens
        self._autocast = align.dtype == "bfloat16"
        # peft refuses only if no name fits at all; one misspelt among others would have no effect.
        modules = [f".{name}" for name, _ in base.named_modules()]
        for target in align.lora_targets:
            if not any(name.endswith(f".{target}") for name in modules):
                known = sorted(
                    {name.rpartition(".")[2] for name, m in base.named_modules() if isinstance(m, nn.Linear)}
                )
                raise ConfigError(
                    f"align.lora_targets {target!r}: {encoder.model} has no modules of that name; its linear ones are "
                    f"{', '.join(known)}"
                )
        adapter = LoraConfig(
            r=align.lora_rank,
            lora_alpha=align.lora_alpha,
            lora_dropout=align.lora_dropout,
            target_modules=list(align.lora_targets),
        )
        try:
            self.network = get_peft_model(base, adapter)
        except ValueError as error:
            raise ConfigError(f"align.lora_targets {align.lora_targets} do not fit {encoder.model}: {error}") from error
        self.train()

    def train(self, mode: bool = True) -> "Policy":
        """Switch the adapters' dropout; the base network never leaves evaluation mode."""
        super().train(False)
        for name, module in self.named_modules():
            if "lora_dropout" in name:
                module.train(mode)
        return self

    def scale(self, share: float) -> None:
        """Let the adapters count for `share` of what they were trained to; 0 is the reference."""
        from peft.tuners.lora import LoraLayer

        for module in self.network.modules():
            if isinstance(module, LoraLayer):
                module.set_scale("default", share)

    def forward(self, prompts: Sequence[str]) -> Tensor:
        """(n, dimension) float32 embeddings of n prompts, in their order."""
        device = next(self.parameters()).device
        batch = tokenise_batch(self.tokenizer, list(prompts), self._max_tokens).to(device)
        # On the CPU, the backward pass of torch's fused attention takes as long as all else together in bfloat16.
        plain = device.type == "cpu" and batch["input_ids"].shape[1] <= _SHORT
        attention = sdpa_kernel(SDPBackend.MATH) if plain else nullcontext()
        with torch.autocast(device.type, torch.bfloat16, enabled=self._autocast), attention:
            hidden = self.network(**batch).last_hidden_state
        return pool(hidden, batch["attention_mask"], self._pooling)

    @torch.no_grad()
    def embed(self, prompts: Sequence[str], batch_size: int = 64) -> Tensor:
        """(n, dimension) embeddings without gradient or dropout, in blocks."""
        order = sorted(range(len(prompts)), key=lambda row: len(prompts[row]))  # little padding in a block
        blocks = [order[start : start + batch_size] for start in range(0, len(order), batch_size)]
        self.train(False)
        embedded = torch.cat([self([prompts[row] for row in block]) for block in blocks])
        self.train(True)
        return embedded[torch.tensor(order).argsort()]


def save_policy(
    encoder: EncoderConfig, align: AlignBase, weights: dict[str, Tensor], out: StageDir, share: float = 1.0
) -> None:
    """Write `adapter/` (peft) and `model/` (merged, in the layout that sentence-transformers loads by path).

    Args:
        weights: the trained LoRA matrices by their names in a `Policy`.
        share: see `Policy.scale`; both hold the adapters so scaled.

    Raises:
        StorageError: they are not those of the policy; the path and the remedy are named.
    """
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.models import Normalize, Pooling, Transformer

    policy = Policy(encoder, align)
    learning = {name for name, parameter in policy.named_parameters() if parameter.requires_grad}
    if learning != set(weights):
        raise StorageError(
            f"{out.root}: of the policy's {len(learning)} matrices {len(learning - set(weights))} were not trained, "
            f"and {len(set(weights) - learning)} others were; delete {out.root} and run again"
        )
    scaled = {name: value * share if "lora_B" in name else value for name, value in weights.items()}
    policy.load_state_dict(scaled, strict=False)  # the base network's weights stay
    with tempfile.TemporaryDirectory() as folder:
        network: Any = policy.network
        network.save_pretrained(f"{folder}/adapter")
        merged = network.merge_and_unload()
        merged.save_pretrained(f"{folder}/merged")
        policy.tokenizer.save_pretrained(f"{folder}/merged")
        mode = {"mean": "mean", "cls": "cls", "last": "lasttoken"}[encoder.pooling]
        body = Transformer(f"{folder}/merged", max_seq_length=encoder.max_tokens)
        modules = [body, Pooling(merged.config.hidden_size, pooling_mode=mode), Normalize()]
        SentenceTransformer(modules=modules, device="cpu").save(f"{folder}/model", create_model_card=False)
        for name in ("adapter", "model"):
            for file in sorted(Path(folder, name).rglob("*")):
                if file.is_file():
                    with out.write(str(file.relative_to(folder))) as target:
                        target.write(file.read_bytes())
