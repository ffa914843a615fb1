"""The embedding stages: a Ray Data stream of units through a pool of actors that hold the model.

A unit is a run of rows of one input part; its result is one output part, written aside and moved into place. Units
whose part already stands are skipped, so a killed stage continues in the middle, and the result is the same.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import ray
import torch
from rich.console import Console
from rich.progress import track

from lgsid_ray.arrays import Int64
from lgsid_ray.artifacts import Embeddings, Items, Lists, Negatives, Table, apart
from lgsid_ray.artifacts.embeddings import column
from lgsid_ray.artifacts.table import matrix
from lgsid_ray.config import RunConfig
from lgsid_ray.config.encoder import EncoderConfig, PromptConfig
from lgsid_ray.encoder.local import local_copy
from lgsid_ray.encoder.model import Encoder, identity, make_encoder
from lgsid_ray.encoder.prompts import combine, content_only_prompts, content_prompts, full_prompts, location_prompts
from lgsid_ray.errors import StorageError
from lgsid_ray.execution.stage import Facts, Inputs
from lgsid_ray.execution.storage import StageDir
from lgsid_ray.execution.stream import stream

Unit = dict[str, Any]
"""An input part, the first row, how many rows, and the name of the output part."""
Work = Callable[[Encoder, pa.Table], pa.Table]


def weights(config: RunConfig) -> list[str]:
    """What a fingerprint must know of the model beside its name: a digest of its files where they lie here."""
    found = identity(config.encoder).get("weights")
    return [f"{config.encoder.model} {found}"] if found else []


def embed(config: RunConfig, inputs: Inputs, out: StageDir) -> Facts:
    """Reference embeddings of the full prompts: `embeddings/`, in item order."""
    return _embed_items(config.encoder, inputs["catalogue"], out, full_prompts)


def embed_content(config: RunConfig, inputs: Inputs, out: StageDir) -> Facts:
    """Embeddings of the content-only prompts: `embeddings/`, in item order."""
    return _embed_items(config.encoder, inputs["catalogue"], out, content_only_prompts)


def embed_aligned(config: RunConfig, inputs: Inputs, out: StageDir) -> Facts:
    """Embeddings of the full prompts by the aligned model: `embeddings/`, in item order."""
    return _embed_items(config.encoder, inputs["catalogue"], out, full_prompts, inputs["align"].child("model"))


def _embed_items(
    config: EncoderConfig,
    catalogue: StageDir,
    out: StageDir,
    prompts: Callable[[pa.Table, PromptConfig], list[str]],
    model: StageDir | None = None,
) -> Facts:
    def work(encoder: Encoder, items: pa.Table) -> pa.Table:
        vectors = encoder.encode(prompts(items, config.prompt))
        return items.select(["item_index", "item_id"]).append_column("embedding", column(vectors))

    return run_units(config, Items(catalogue), Embeddings(out), work, model)


def embed_lists(config: RunConfig, inputs: Inputs, out: StageDir) -> Facts:
    """Embeddings of every anchor's list [P_i, P_i^1 … P_i^K] (Eq 1): `lists/`.

    The prompts' two halves of the items in any list are held once in the object store and shared by the actors.

    Raises:
        StorageError: an item of a list is not in the catalogue.
    """
    settings = config.encoder.prompt
    shared = ray.put(_halves(Items(inputs["catalogue"]), Negatives(inputs["sample"]), settings))

    def work(encoder: Encoder, drawn: pa.Table) -> pa.Table:
        wanted, contents, locations = ray.get(shared)
        anchors, negatives = drawn.column("item_index").to_numpy(), matrix(drawn.column("negatives"))
        rows = np.searchsorted(wanted, np.concatenate([anchors[:, None], negatives], axis=1))
        texts = combine(
            contents.take(pa.array(np.repeat(rows[:, 0], rows.shape[1]))).to_pylist(),
            locations.take(pa.array(rows.ravel())).to_pylist(),
            settings,
        )
        vectors = encoder.encode(texts).reshape(len(drawn), -1)
        return drawn.select(["item_index", "negatives"]).append_column("embedding", column(vectors))

    return run_units(config.encoder, Negatives(inputs["sample"]), Lists(out), work)


def _halves(items: Items, negatives: Negatives, prompt: PromptConfig) -> tuple[Int64, pa.Array, pa.Array]:
    """item_index, ascending, of every item that stands in a list; its content prompt and its location prompt."""
    indices = []
    for table in negatives.scan(["item_index", "negatives"]):
        indices += [table.column("item_index").to_numpy(), matrix(table.column("negatives")).ravel()]
    wanted = np.unique(np.concatenate(indices))
    contents: list[str] = []
    locations: list[str] = []
    for table in items.among(wanted):
        contents += content_prompts(table, prompt)
        locations += location_prompts(table, prompt)
    if len(contents) != len(wanted):
        raise apart(items, negatives, f"of {len(wanted)} items in lists the catalogue holds {len(contents)}")
    return wanted, pa.array(contents), pa.array(locations)


class _Embedder:
    """An actor: loads the model once, then turns units into output parts."""

    def __init__(self, config: EncoderConfig, source: Table, target: Table, work: Work, model: StageDir | None) -> None:
        # One thread an actor on a CPU: the pool is the parallelism, and threads would fight for the cores.
        torch.set_num_threads(1)
        self._config, self._source, self._target, self._work, self._model = config, source, target, work, model
        self._encoder: Encoder | None = None
        self._part: tuple[str, Any] = ("", None)

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        if self._encoder is None:
            # Not in the constructor: of what fails there Ray passes on the text alone, and tries it again before.
            device = "cuda" if self._config.gpus_per_actor else "cpu"
            path = local_copy(self._model) if self._model is not None else None
            self._encoder = make_encoder(self._config, path, device)
        for part, start, rows, name in zip(batch["part"], batch["start"], batch["rows"], batch["name"], strict=True):
            if part != self._part[0]:  # units of a part follow one another
                self._part = (part, self._source.part(str(part)))
            table = self._part[1].slice(int(start), int(rows))
            self._target.write(self._work(self._encoder, table), name)
        return {"rows": batch["rows"]}


def run_units(config: EncoderConfig, source: Table, target: Table, work: Work, model: StageDir | None = None) -> Facts:
    """Compute the parts of `target` that are missing, a unit of `source`'s rows at a time.

    Raises:
        StorageError: those that stand are another encoder's, for example since the weights were exchanged.
    """
    out = target.folder
    units = _units(source, config.rows)
    standing = out.members(target.name)
    missing = [unit for unit in units if unit["name"] not in standing]
    record = identity(config, local_copy(model) if model is not None else None)
    if len(missing) < len(units) and out.read_json("encoder.json") != record:
        raise StorageError(
            f"{out.root} holds embeddings of another encoder than encoder.model is now; delete it and run again"
        )
    out.write_json("encoder.json", record)
    if missing:
        done = stream(_Embedder, (config, source, target, work, model), missing, config.actors, config.gpus_per_actor)
        for _ in track(done, f"  {target.name}", total=len(missing), console=Console(stderr=True)):
            pass
    rows = sum(unit["rows"] for unit in units)
    return {"rows": rows, "parts": len(units), "computed_parts": len(missing)}


def _units(source: Table, rows: int) -> list[Unit]:
    units = []
    for number, (part, total) in enumerate(source.folder.count_parts(source.name)):
        for start in range(0, total, rows):
            name = f"part-{number:05d}-{start:09d}.parquet"
            units.append({"part": part, "start": start, "rows": min(rows, total - start), "name": name})
    return units
