"""Reading what is judged, once, into bounded arrays: one float32 matrix per space, labels as codes."""

from collections.abc import Mapping

import numpy as np
import pyarrow as pa

from lgsid_ray.arrays import Float32, Int64, Text
from lgsid_ray.errors import StorageError
from lgsid_ray.evaluate.space import LEVELS, Space, path_codes
from lgsid_ray.execution.storage import StageDir
from lgsid_ray.geo.distance import unit_xyz


def read_space(inputs: Mapping[str, StageDir]) -> tuple[Space, Text]:
    """The space to judge and every item's split; aligned and content embeddings where the run has them."""
    items = inputs["catalogue"].read_table("items", ["item_index", *LEVELS, "lat", "lon", "split"])
    order = _dense(items.column("item_index").to_numpy(), items.num_rows, inputs["catalogue"])
    items = items.take(pa.array(order))
    xyz = unit_xyz(items.column("lat").to_numpy(), items.column("lon").to_numpy())
    labels = path_codes([items.column(name) for name in LEVELS])
    split = np.asarray(items.column("split").to_pylist())
    matrices = {
        name: read_embeddings(inputs[stage], items.num_rows)
        for name, stage in (("aligned", "embed_aligned"), ("content", "embed_content"))
        if stage in inputs
    }
    return Space(read_embeddings(inputs["embed"], items.num_rows), labels, xyz, **matrices), split


def read_embeddings(stage: StageDir, count: int) -> Float32:
    """(count, d) float32, row i is item i.

    Raises:
        StorageError: the table does not hold every item exactly once.
    """
    matrix: Float32 | None = None
    seen = np.zeros(count, dtype=np.int64)
    for part in stage.parts("embeddings"):
        table = stage.read_part(part, ["item_index", "embedding"])
        vectors = table.column("embedding").combine_chunks()
        width = vectors.type.list_size
        if matrix is None:
            matrix = np.empty((count, width), dtype=np.float32)
        index = table.column("item_index").to_numpy()
        if len(index) and (index.min() < 0 or index.max() >= count):
            break
        matrix[index] = vectors.flatten().to_numpy().reshape(-1, width)
        seen[index] += 1
    if matrix is None or not (seen == 1).all():
        raise StorageError(
            f"{stage.path('embeddings')} does not hold each of the catalogue's {count} items exactly once; "
            f"delete {stage.root} and run again"
        )
    return matrix


def read_tokens(stage: StageDir, count: int) -> Int64:
    """(count, levels) SID tokens, row i is item i."""
    name = "sids.parquet" if stage.exists("sids.parquet") else "sids"
    table = stage.read_table(name, ["item_index", "tokens"])
    order = _dense(table.column("item_index").to_numpy(), count, stage)
    flat = table.column("tokens").combine_chunks().flatten().to_numpy().astype(np.int64)
    return np.asarray(flat.reshape(count, -1)[order])


def _dense(index: Int64, count: int, stage: StageDir) -> Int64:
    """The order that sorts `index`, which must hold 0..count-1."""
    order = np.argsort(index, kind="stable")
    if len(index) != count or not np.array_equal(index[order], np.arange(count)):
        raise StorageError(f"{stage.root}: item_index is not 0..{count - 1}; delete the folder and run again")
    return np.asarray(order)
