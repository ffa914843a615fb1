"""A fitted tokenizer: transform and levels, saved and loaded together; from items to tokens and back."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from safetensors import SafetensorError
from safetensors.numpy import load, save

from lgsid_ray.arrays import Float32, Int32
from lgsid_ray.config.tokenizer import FeatureConfig
from lgsid_ray.errors import InputError, StorageError
from lgsid_ray.execution.storage import StageDir
from lgsid_ray.tokenizer.features import Lots, Moments, Transform
from lgsid_ray.tokenizer.latent import Autoencoder, Beside, Latent
from lgsid_ray.tokenizer.levels import ASSIGNERS, Level
from lgsid_ray.tokenizer.search import tokens_of

FILE = "tokenizer.safetensors"


@dataclass(frozen=True)
class Tokenizer:
    """Everything that an item's tokens depend on beside the item: the same item has the same tokens, to the bit.

    Attributes:
        kind: of the registry.
        levels: in the order of the tokens.
        transform: from items to features; None where nothing reads them.
        latent: the space that levels on embeddings work in; None: that of the embeddings.
        beam: prefixes that encoding keeps behind a level (see `search.tokens_of`).
    """

    kind: str
    levels: tuple[Level, ...]
    transform: Transform | Lots | None = None
    latent: Latent | None = None
    beam: int = 1

    @property
    def sizes(self) -> list[int]:
        """Codes of each level."""
        return [level.size for level in self.levels]

    @property
    def dimension(self) -> int:
        """Of the embeddings."""
        return self.latent.dimension if self.latent else self.levels[0].centres.shape[1]

    def encode(self, items: pa.Table | None, embeddings: Float32) -> Int32:
        """(n, L) tokens of n items, whatever else is in the batch (Eq 10-12).

        Args:
            items: the catalogue's columns (see `features.COLUMNS`; item_id for random IDs); not read, and may be None,
                where there is no transform.
            embeddings: (n, d) of the same items, by the model whose embeddings the tokenizer was fitted to.

        Raises:
            InputError: items and embeddings do not fit each other or the tokenizer.
        """
        rows, features = self.enter(items, embeddings)
        return tokens_of(self.levels, rows, features, self.beam)

    def enter(self, items: pa.Table | None, embeddings: Float32) -> tuple[Float32, Float32 | None]:
        """What levels work on: (n, w) vectors of `latent`, and (n, f) features if there is a transform; as `encode`."""
        embeddings = np.ascontiguousarray(embeddings, dtype=np.float32)
        if embeddings.ndim != 2 or embeddings.shape[1] != self.dimension:
            raise InputError(f"embeddings of shape {embeddings.shape}: this tokenizer takes (items, {self.dimension})")
        features = None
        if self.transform is not None:
            if items is None or len(items) != len(embeddings):
                told = "no items" if items is None else f"{len(items)} items"
                raise InputError(f"{told} for {len(embeddings)} embeddings: this tokenizer reads both, row by row")
            features = self.transform(items)
        return self.latent.enter(embeddings, features) if self.latent else embeddings, features

    def decode(self, tokens: Int32) -> Float32:
        """(n, d) reconstructed embeddings of (n, l) tokens of the first l levels: the sum of the chosen centres."""
        rows = self.quantised(tokens)
        return self.latent.leave(rows) if self.latent else rows

    def quantised(self, tokens: Int32) -> Float32:
        """(n, w) sums of the centres that (n, l) tokens of the first l levels choose."""
        return np.asarray(sum(level.centres[column] for level, column in zip(self.levels, tokens.T, strict=False)))

    def save(self, where: StageDir | str | Path) -> None:
        """Write tokenizer.safetensors into a folder, or a file whose name ends in .safetensors."""
        tensors: dict[str, np.ndarray] = {}
        for number, level in enumerate(self.levels, start=1):
            tensors[f"level_{number}.centres"] = level.centres
            if level.codebook is not level.centres:
                tensors[f"level_{number}.codebook"] = level.codebook
            if level.price is not None:
                tensors[f"level_{number}.price"] = level.price
        if isinstance(self.transform, Transform):
            tensors["moments.total"] = self.transform.moments.total
            tensors["moments.square"] = self.transform.moments.square
        if isinstance(self.latent, Autoencoder):
            tensors |= self.latent.tensors()
        # safetensors writes memory as it lies, whatever the order of the axes.
        packed = {name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()}
        header = {**self._facts(), "digest": _digest(packed)}
        folder, name = _place(where)
        with folder.write(name) as file:
            file.write(save(packed, {"tokenizer": json.dumps(header)}))

    def _facts(self) -> dict[str, Any]:
        facts: dict[str, Any] = {
            "kind": self.kind,
            "beam": self.beam,
            "levels": [{"space": x.space, "metric": x.metric, "assigner": x.assigner} for x in self.levels],
        }
        if isinstance(self.transform, Lots):
            facts["lots"] = asdict(self.transform)
        if isinstance(self.transform, Transform):
            config, moments = self.transform.config, self.transform.moments
            facts["transform"] = {
                "features": config.model_dump(mode="json"),
                "seed": self.transform.seed,
                "count": moments.count,
            }
        if isinstance(self.latent, Beside):
            facts["beside"] = asdict(self.latent)
        return facts

    @classmethod
    def load(cls, where: StageDir | str | Path) -> "Tokenizer":
        """Read what `save` wrote.

        Raises:
            StorageError: missing, corrupt or incomplete, or of a kind that this version does not know.
        """
        folder, name = _place(where)
        if not folder.exists(name):
            raise StorageError(
                f"{folder.path(name)} is missing: name the folder of a tokenise stage (see lgsid status)"
            )
        content = folder.read(name)
        try:
            tensors = load(content)
            header = _header(content)
            if header["digest"] != _digest(tensors):
                raise ValueError("its numbers are not those that were written")
            return cls._of(header, tensors)
        except (SafetensorError, KeyError, TypeError, ValueError) as error:
            path = folder.path(name)
            raise StorageError(f"{path} is corrupt ({error}); delete {folder.root} and run again") from None

    @classmethod
    def _of(cls, header: Mapping[str, Any], tensors: Mapping[str, np.ndarray]) -> "Tokenizer":
        levels = []
        for number, how in enumerate(header["levels"], start=1):
            centres = tensors[f"level_{number}.centres"]
            codebook = tensors.get(f"level_{number}.codebook", centres)
            if (how["assigner"], how["metric"]) not in ASSIGNERS:
                raise ValueError(f"assigner {how['assigner']} by {how['metric']} is not known to this version")
            price = tensors[f"level_{number}.price"] if how["assigner"] == "priced" else None
            levels.append(Level(how["space"], codebook, centres, how["metric"], price))
        transform: Transform | Lots | None = None
        if told := header.get("lots"):
            transform = Lots(**told)
        if told := header.get("transform"):
            moments = Moments(told["count"], tensors["moments.total"], tensors["moments.square"])
            transform = Transform(FeatureConfig.model_validate(told["features"]), told["seed"], moments)
        latent: Latent | None = None
        if told := header.get("beside"):
            latent = Beside(**told)
        elif any(name.startswith("encoder_") for name in tensors):
            latent = Autoencoder.of(tensors)
        return cls(header["kind"], tuple(levels), transform, latent, header.get("beam", 1))


def _place(where: StageDir | str | Path) -> tuple[StageDir, str]:
    if isinstance(where, StageDir):
        return where, FILE
    folder, _, name = str(where).rpartition("/")
    return (StageDir(folder or "."), name) if name.endswith(".safetensors") else (StageDir(str(where)), FILE)


def _header(content: bytes) -> Any:
    """What `save` has put beside the tensors: safetensors reads it from files on a local disk only."""
    length = int.from_bytes(content[:8], "little")
    return json.loads(json.loads(content[8 : 8 + length])["__metadata__"]["tokenizer"])


def _digest(tensors: Mapping[str, np.ndarray]) -> str:
    """Of names, types, shapes and numbers."""
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {tensor.shape} ".encode())
        digest.update(tensor.tobytes())
    return digest.hexdigest()
