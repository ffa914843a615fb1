"""A local copy of a folder that may lie in an object store: model loaders read local paths only."""

import hashlib
import json
import os
import shutil
import tempfile
from pathlib import Path

from lgsid_ray.errors import StorageError
from lgsid_ray.execution.storage import StageDir


def local_copy(folder: StageDir) -> str:
    """A local path with the folder's content: the folder itself where it is local, else a cached download.

    Raises:
        StorageError: the folder is missing or empty.
    """
    if folder.is_local:
        return folder.root
    # Sizes, times and ETags belong to the name: what was written anew must not be read from an old copy.
    listing = folder.fs.find(folder.root, detail=True)
    if not listing:
        raise StorageError(f"{folder.uri} is missing or empty; run the stage that writes it again")
    name = hashlib.sha256(json.dumps([folder.uri, listing], default=str).encode()).hexdigest()[:16]
    target = Path(tempfile.gettempdir()) / f"lgsid-model-{os.getuid()}-{name}"
    if not target.is_dir():
        aside = tempfile.mkdtemp(prefix="lgsid-model-")
        folder.fs.get(f"{folder.root}/", f"{aside}/", recursive=True)
        try:
            os.rename(aside, target)
        except OSError:  # another process was first
            shutil.rmtree(aside)
    return str(target)
