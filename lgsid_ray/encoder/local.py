"""A local copy of a folder that may lie in an object store: model loaders read local paths only."""

import hashlib
import os
import shutil
import tempfile
from pathlib import Path

from lgsid_ray.storage import StageDir


def local_copy(folder: StageDir) -> str:
    """A local path with the folder's content: the folder itself where it is local, else a cached download."""
    if folder.is_local:
        return folder.root
    name = hashlib.sha256(folder.uri.encode()).hexdigest()[:16]
    target = Path(tempfile.gettempdir()) / f"lgsid-model-{os.getuid()}-{name}"
    if not target.is_dir():
        aside = tempfile.mkdtemp(prefix="lgsid-model-")
        folder.fs.get(f"{folder.root}/", f"{aside}/", recursive=True)
        try:
            os.rename(aside, target)
        except OSError:  # another process was first
            shutil.rmtree(aside)
    return str(target)
