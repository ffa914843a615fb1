"""Trained weights in safetensors, and with them what they are weights of: the model, and the SIDs that it speaks."""

import hashlib
import json
from collections.abc import Mapping

import numpy as np
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from lgsid_ray.arrays import Int64
from lgsid_ray.config.base import Section
from lgsid_ray.errors import StorageError
from lgsid_ray.execution.storage import StageDir

WEIGHTS = "weights.safetensors"
_ENTRY = "lgsid_ray"


def label(model: Section, tokens: Int64 | None) -> dict[str, str]:
    """What weights are of: the model's settings, and a digest of the (items, L) tokens that it speaks, if any."""
    spoken = "" if tokens is None else hashlib.sha256(np.ascontiguousarray(tokens, dtype="<i8").tobytes()).hexdigest()
    return {"model": json.dumps(model.identity(), sort_keys=True), "tokens": spoken}


def write_weights(folder: StageDir, weights: Mapping[str, Tensor], of: Mapping[str, str]) -> None:
    """Write them, with their `label` as the file's metadata: one entry, since safetensors puts several in any order."""
    with folder.write(WEIGHTS) as file:
        file.write(save(dict(weights), {_ENTRY: json.dumps(dict(of), sort_keys=True)}))


def read_weights(folder: StageDir, of: Mapping[str, str]) -> dict[str, Tensor]:
    """The weights of what `of` labels.

    Raises:
        StorageError: missing, corrupt, or of another model or other SIDs.
    """
    raw, path = folder.read(WEIGHTS), folder.path(WEIGHTS)
    try:
        weights = load(raw)
        header = json.loads(raw[8 : 8 + int.from_bytes(raw[:8], "little")])
        held = json.loads(header.get("__metadata__", {}).get(_ENTRY, "{}"))
    except (SafetensorError, ValueError) as error:
        raise folder.corrupt(path, error) from None
    if held.get("model") != of["model"]:
        raise StorageError(
            f"{path} holds weights of the model {held.get('model')}, not of {of['model']}; "
            f"delete {folder.root} and run again"
        )
    if held.get("tokens") != of["tokens"]:
        raise StorageError(
            f"{path} was trained on other SIDs than those it is given (their digests differ), so it would name other "
            f"items; give it the SIDs it was trained on, or delete {folder.root} and run again"
        )
    return weights
