"""The space that a tokenizer's levels work in where it is not that of the embeddings themselves."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from lgsid_ray.arrays import Float32, Float64

_BLOCK = 16_384


class Latent(Protocol):
    """There and back."""

    @property
    def dimension(self) -> int:
        """Of the embeddings."""

    def enter(self, embeddings: Float32, features: Float32 | None) -> Float32:
        """(n, w) vectors of (n, d) embeddings and (n, f) features; a row's vector depends on that row alone."""

    def leave(self, rows: Float32) -> Float32:
        """(n, d) embeddings that (n, w) vectors stand for."""


@dataclass(frozen=True)
class Beside:
    """Embeddings with features beside them: what both say is quantised together.

    Attributes:
        dimension: of the embeddings. scale: of the features.
    """

    dimension: int
    scale: float

    def enter(self, embeddings: Float32, features: Float32 | None) -> Float32:
        """(n, d + f)."""
        assert features is not None
        return np.concatenate([embeddings, np.float32(self.scale) * features], axis=1)

    def leave(self, rows: Float32) -> Float32:
        """Without the features."""
        return rows[:, : self.dimension]


@dataclass(frozen=True)
class Autoencoder:
    """Two multilayer perceptrons with ReLU between their layers.

    Attributes:
        encoder, decoder: layers as (weight (out, in), bias (out,)), from embeddings and back to them.
    """

    encoder: tuple[tuple[Float32, Float32], ...]
    decoder: tuple[tuple[Float32, Float32], ...]

    @property
    def dimension(self) -> int:
        """Of the embeddings."""
        return self.encoder[0][0].shape[1]

    def enter(self, embeddings: Float32, features: Float32 | None) -> Float32:
        """(n, w); by float64, in which no batch rounds a row differently to the digits of float32."""
        return _through(self.encoder, embeddings)

    def leave(self, rows: Float32) -> Float32:
        """(n, d) as decoded."""
        return _through(self.decoder, rows)

    def tensors(self) -> dict[str, Float32]:
        """By the names of `of`."""
        named: dict[str, Float32] = {}
        for side in ("encoder", "decoder"):
            for number, (weight, bias) in enumerate(getattr(self, side), start=1):
                named |= {f"{side}_{number}.weight": weight, f"{side}_{number}.bias": bias}
        return named

    @classmethod
    def of(cls, tensors: Mapping[str, Float32]) -> "Autoencoder":
        """Out of what `tensors` gave.

        Raises:
            KeyError: incomplete.
        """

        def layers(side: str) -> tuple[tuple[Float32, Float32], ...]:
            count = sum(name.startswith(f"{side}_") and name.endswith(".weight") for name in tensors)
            if not count:
                raise KeyError(f"{side}_1.weight")
            numbers = range(1, count + 1)
            return tuple((tensors[f"{side}_{n}.weight"], tensors[f"{side}_{n}.bias"]) for n in numbers)

        return cls(layers("encoder"), layers("decoder"))


def _through(layers: tuple[tuple[Float32, Float32], ...], rows: Float32) -> Float32:
    wide = [(weight.astype(np.float64).T, bias.astype(np.float64)) for weight, bias in layers]
    out = np.empty((len(rows), wide[-1][1].shape[0]), np.float32)
    for start in range(0, len(rows), _BLOCK):
        some: Float64 = rows[start : start + _BLOCK].astype(np.float64)
        for number, (weight, bias) in enumerate(wide):
            some = (some if number == 0 else some.clip(min=0)) @ weight + bias
        out[start : start + _BLOCK] = some
    return out
