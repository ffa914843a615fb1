"""Text fusion: what items say of where they are, put into their embeddings without training and without labels."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from lgsid_ray.arrays import AnyFloat, Float32
from lgsid_ray.execution.storage import StageDir

FILE = "fusion.safetensors"
SHRINKAGE = 0.01
"""How far the texts' covariance is shrunk to a multiple of the identity. Few texts span few of the dimensions: without
it a district that is first seen later would lose whatever lies outside their span, which is what is its own."""


@dataclass(frozen=True)
class Fusion:
    """norm(E_ref + w · norm(W (E(location text) − m))).

    m is the mean of the location texts' embeddings and W the (ZCA) whitening by their shrunk covariance. Without it all
    locations are much alike, and what sets districts apart drowns in what "district", "city" and "province" share.

    Attributes:
        mean: (d,) m. whitening: (d, d) W. weight: w.
    """

    mean: Float32
    whitening: Float32
    weight: float

    @classmethod
    def fitted(cls, texts: Float32, weight: float) -> "Fusion":
        """To the (t, d) embeddings of distinct location texts."""
        mean = texts.mean(axis=0, dtype=np.float64)
        _, singular, axes = np.linalg.svd(texts.astype(np.float64) - mean, full_matrices=False)
        variance = np.square(singular) / len(texts)
        typical = variance.sum() / max(np.count_nonzero(variance > variance.max(initial=0.0) * 1e-9), 1)
        outside = SHRINKAGE * typical or 1.0  # of the dimensions that no text spans
        scale = 1 / np.sqrt((1 - SHRINKAGE) * variance + outside) - 1 / np.sqrt(outside)
        whitening = np.eye(len(mean)) / np.sqrt(outside) + (axes.T * scale) @ axes
        return cls(mean.astype(np.float32), whitening.astype(np.float32), weight)

    def directions(self, locations: Float32) -> Float32:
        """(n, d) whitened location texts of length 1.

        Args:
            locations: (n, d) embeddings of the items' location texts alone, NaN for an item that has none, which
                gets 0.
        """
        centred = np.nan_to_num(locations) - self.mean
        # Of a text that is the mean, as where there is but one, rounding is all that is left.
        nothing = np.isnan(locations).any(axis=1) | (np.linalg.norm(centred, axis=1) < 1e-5)
        return unit(np.where(nothing[:, None], np.float32(0), centred @ self.whitening))

    def __call__(self, reference: Float32, locations: Float32) -> Float32:
        """(n, d) fused embeddings of length 1, of E_ref of full prompts and what `directions` takes."""
        return unit(reference + np.float32(self.weight) * self.directions(locations))

    def save(self, folder: StageDir) -> None:
        """Write `fusion.safetensors`."""
        with folder.write(FILE) as file:
            file.write(save({"mean": self.mean, "whitening": self.whitening, "weight": np.array(self.weight)}))

    @classmethod
    def load(cls, where: StageDir | str) -> "Fusion":
        """What `save` wrote, by the folder of a fuse stage.

        Raises:
            StorageError: missing or corrupt.
        """
        folder = where if isinstance(where, StageDir) else StageDir(str(where))
        try:
            found: dict[str, Any] = load(folder.read(FILE))
            return cls(found["mean"], found["whitening"], float(found["weight"]))
        except (SafetensorError, KeyError, ValueError) as error:
            raise folder.corrupt(folder.path(FILE), error) from None


def unit(rows: AnyFloat) -> Float32:
    """Rows scaled to length 1, float32; zero stays zero."""
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.asarray(rows / np.maximum(norms, np.float32(1e-12)), dtype=np.float32)
