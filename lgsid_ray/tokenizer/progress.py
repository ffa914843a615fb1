"""Where an unfinished K-Means stands: kept after every step, so that a fit that is killed goes on from there."""

from dataclasses import dataclass

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from lgsid_ray.arrays import Float32, Float64
from lgsid_ray.execution.storage import SCRATCH, StageDir


@dataclass(frozen=True)
class Progress:
    """After some steps.

    Attributes:
        centroids: (k, d). price: (k,) where clusters are to be even. seen: (k,) rows of each so far.
        inertia: of the last step. softness: of the next step's loads.
        step: how many are done. settled: no more are due. even: clusters are, by their price.
    """

    centroids: Float32
    price: Float32 | None
    seen: Float64
    inertia: float = np.inf
    softness: float = 0.0
    step: int = 0
    settled: bool = False
    even: bool = False

    def keep(self, out: StageDir, name: str) -> None:
        """Write it in the place of what stands under this name."""
        tensors = {"centroids": self.centroids, "seen": self.seen}
        tensors["numbers"] = np.array([self.inertia, self.softness, self.step, self.settled, self.even])
        if self.price is not None:
            tensors["price"] = self.price
        with out.write(_place(name)) as file:
            file.write(save({key: np.ascontiguousarray(tensor) for key, tensor in tensors.items()}))

    @classmethod
    def kept(cls, out: StageDir, name: str) -> "Progress | None":
        """What stands under this name, if anything.

        Raises:
            StorageError: it is corrupt.
        """
        if not out.exists(_place(name)):
            return None
        try:
            found = load(out.read(_place(name)))
            inertia, softness, *told = found["numbers"].tolist()
            step, settled, even = map(int, told)
            price, seen = found.get("price"), found["seen"]
            return cls(found["centroids"], price, seen, inertia, softness, step, bool(settled), bool(even))
        except (SafetensorError, KeyError, ValueError) as error:
            raise out.corrupt(out.path(_place(name)), error) from None


def _place(name: str) -> str:
    return f"{SCRATCH}/kmeans/{name}.safetensors"
