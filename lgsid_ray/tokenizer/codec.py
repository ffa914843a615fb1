"""Codebooks: from features and embeddings to tokens and back; and the text form of a SID."""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from lgsid_ray.arrays import Float32, Int32
from lgsid_ray.errors import StorageError
from lgsid_ray.execution.storage import StageDir
from lgsid_ray.tokenizer.kmeans import assign

_LETTERS = "abcdefgh"
_COLLISION = "x"
_PART = re.compile(r"<([a-z])_(\d+)>")


@dataclass(frozen=True)
class Codebooks:
    """A fitted tokenizer.

    Attributes:
        centroids_: (k1, f) centroids in the space of composite features; None where level 1 works on embeddings.
        centres_: per level (k, d) vectors whose sum reconstructs an embedding; level 1 holds its members' mean.
    """

    centroids_: Float32 | None
    centres_: list[Float32]

    def encode(self, features: Float32 | None, embeddings: Float32) -> Int32:
        """(n, L) tokens of n items (Eq 10-12).

        Args:
            features: (n, f) standardised composite features (Eq 9); not read where `centroids_` is None.
            embeddings: (n, d).
        """
        tokens = np.empty((len(embeddings), len(self.centres_)), dtype=np.int32)
        left = embeddings
        for level, centres in enumerate(self.centres_):
            if level == 0 and self.centroids_ is not None:
                assert features is not None
                label, _ = assign(features, self.centroids_)
            else:
                label, _ = assign(left, centres)
            tokens[:, level] = label
            left = left - centres[label]
        return tokens

    def decode(self, tokens: Int32) -> Float32:
        """(n, d) reconstructed embeddings: the sum of the chosen centres."""
        return np.asarray(sum(centres[tokens[:, level]] for level, centres in enumerate(self.centres_)))

    def save(self, out: StageDir, facts: dict[str, object]) -> None:
        """Write codebooks.safetensors, with `facts` in its header."""
        tensors = {f"level_{level + 1}": centres for level, centres in enumerate(self.centres_)}
        if self.centroids_ is not None:
            tensors["features_1"] = self.centroids_
        # safetensors writes memory as it lies, whatever the order of the axes.
        packed = {name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()}
        with out.write("codebooks.safetensors") as file:
            file.write(save(packed, {"facts": json.dumps(facts)}))

    @classmethod
    def load(cls, folder: StageDir) -> "Codebooks":
        """Read what `save` wrote.

        Raises:
            StorageError: missing or corrupt.
        """
        try:
            tensors = load(folder.read("codebooks.safetensors"))
        except SafetensorError as error:
            path = folder.path("codebooks.safetensors")
            raise StorageError(f"{path} is corrupt ({error}); delete {folder.root} and run again") from None
        levels = sorted(name for name in tensors if name.startswith("level_"))
        return cls(tensors.get("features_1"), [tensors[name] for name in levels])


def sid_text(tokens: Sequence[int], collision: int = 0) -> str:
    """`<a_12><b_3><c_7>`, with `<x_1>` behind it for a collision rank above 0.

    Raises:
        ValueError: more levels than letters.
    """
    if len(tokens) > len(_LETTERS):
        raise ValueError(f"a SID of {len(tokens)} levels has no text form; at most {len(_LETTERS)} have one")
    text = "".join(f"<{letter}_{token}>" for letter, token in zip(_LETTERS, tokens, strict=False))
    return f"{text}<{_COLLISION}_{collision}>" if collision else text


def parse_sid(text: str) -> tuple[tuple[int, ...], int]:
    """(tokens, collision rank) of a SID's text form.

    Raises:
        ValueError: the text is no SID.
    """
    parts = _PART.findall(text)
    tokens = [int(number) for letter, number in parts if letter != _COLLISION]
    collision = int(parts[-1][1]) if parts and parts[-1][0] == _COLLISION else 0
    if not tokens or sid_text(tokens, collision) != text:
        raise ValueError(f"{text!r} is not a SID such as <a_12><b_3><c_7> or <a_12><b_3><c_7><x_1>")
    return tuple(tokens), collision
