"""What training workers read, made ahead of them: which items every step asks for, and their prompts and vectors.

    asked     the driver: the items of every step, a part per window of steps
    gathered  a task per span of items: those of them that each window asks for, and those that judge

A worker holds one window, and what judges: its memory goes with neither the catalogue nor the number of steps.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from lgsid_ray.align.probe import WATCHED, ControlVariate, draw_probe, draw_queries, nearest
from lgsid_ray.align.triples import training_cities
from lgsid_ray.arrays import Int64
from lgsid_ray.artifacts import Embeddings, Items
from lgsid_ray.artifacts.embeddings import column, vectors
from lgsid_ray.artifacts.labels import path_codes
from lgsid_ray.artifacts.spans import Span, spans
from lgsid_ray.artifacts.table import lists, matrix
from lgsid_ray.config.encoder import PromptConfig
from lgsid_ray.encoder.prompts import full_prompts
from lgsid_ray.errors import StorageError
from lgsid_ray.execution.stage import Inputs
from lgsid_ray.execution.storage import SCRATCH, StageDir
from lgsid_ray.execution.stream import here, tasks

LESSONS = f"{SCRATCH}/lessons"
_ASKED, _JUDGING, _WHOLE = f"{LESSONS}/asked", "judging", f"{LESSONS}/whole.json"
WINDOW_ROWS = 32_768
"""Items that the steps of a window ask for, about."""
SPAN_ROWS = 65_536
"""Items of which a task gathers those asked for."""
KNOWN = 8192
"""Queries of which it is known what they lose in the teacher's space."""
_AROUND = 10  # neighbours of a judging query; the model finds some that no space has among its first five


@dataclass(frozen=True)
class Corpus:
    """Some items, in the order of their item_index.

    Attributes:
        index: (m,) item_index, ascending. prompts: m full prompts. reference: (m, dimension) float32 reference
            embeddings. teacher: (m, dimension) what the encoder is to learn; None where no embeddings say it.
        districts: (m,) code of (province, city, district); -1 where it is unknown.
    """

    index: Int64
    prompts: list[str]
    reference: Tensor
    teacher: Tensor | None
    districts: Int64

    def rows(self, items: Int64) -> Int64:
        """Positions of item_index values; all must be in the corpus."""
        return np.searchsorted(self.index, items)


@dataclass(frozen=True)
class Lessons:
    """Where they are. Picklable, and as small for many steps as for few.

    Attributes:
        out: the stage's folder. steps: of a window.
        probe, queries, around: item_index of the items among which training is watched, of those that judge its end,
            and of what lies around these.
        control: what the queries lose in the teacher's space; None without a teacher.
    """

    out: StageDir
    steps: int
    probe: Int64
    queries: Int64
    around: Int64
    control: ControlVariate | None

    def window(self, step: int) -> int:
        """The number of the window that a step is in."""
        return step // self.steps

    def asked(self, window: int) -> Int64:
        """(steps, rows) item_index that each step of a window asks for."""
        return matrix(self.out.read_table(f"{_ASKED}/{_part(window)}").column("items"))

    def corpus(self, window: int) -> Corpus:
        """The items of a window.

        Raises:
            StorageError: an item is not in the catalogue.
        """
        return self._corpus(str(window), np.unique(self.asked(window)))

    def judging(self) -> Corpus:
        """The items that judge: probe, queries and what lies around them."""
        return self._corpus(_JUDGING, self.judges())

    def judges(self) -> Int64:
        """(m,) item_index, ascending, of the items that judge."""
        return np.unique(np.concatenate([self.probe, self.queries, self.around]))

    def _corpus(self, name: str, wanted: Int64) -> Corpus:
        folder = f"{LESSONS}/{name}"
        table = self.out.read_table(folder)
        index = table.column("item_index").to_numpy()
        if not np.array_equal(index, wanted):
            raise StorageError(
                f"{self.out.path(folder)} does not hold each of {len(wanted)} wanted items exactly once, it has "
                f"{len(index)} rows; delete {self.out.root} and run again"
            )
        taught = torch.tensor(matrix(table.column("teacher"))) if "teacher" in table.column_names else None
        prompts, districts = table.column("prompt").to_pylist(), path_codes(table)[:, -1]
        return Corpus(index, prompts, torch.tensor(vectors(table)), taught, districts)


def prepare(
    inputs: Inputs, prompt: PromptConfig, asks: Callable[[int], Int64], steps: int, probe: int, seed: int, out: StageDir
) -> Lessons:
    """Write what `steps` steps ask for into `out`, unless an interrupted call has left it whole.

    The driver holds some 30 bytes a training item while it draws.

    Args:
        inputs: `catalogue`, `embed`, and `fuse` where that is the teacher. asks: the item_index of a step, as many for
            each. probe: how many items watch, and how many queries judge the end, among what lies nearest to them in
            the reference space, and in the teacher's.

    Raises:
        StorageError: the tables do not belong together.
    """
    items, spaces = Items(inputs["catalogue"]), [inputs[name] for name in ("embed", "fuse") if name in inputs]
    work = list(zip(*(spans(inputs["catalogue"], space, SPAN_ROWS) for space in spaces), strict=True))
    train, cities = training_cities(items)
    reference, *teacher = [Embeddings(space) for space in spaces]
    asked = draw_queries(items.count(), max(KNOWN, probe) if teacher else probe, seed)
    found = [nearest(space, asked, _AROUND) for space in (reference, *teacher)]
    queries = asked[:probe]
    near = np.setdiff1d(np.concatenate([one[: len(queries)].ravel() for one in found]), queries)
    control = None
    if teacher:
        close, taught = (one[:, :WATCHED] for one in found)
        control = ControlVariate.of(reference, asked, taught, close, len(queries))
    window = max(1, WINDOW_ROWS // asks(0).size)
    lessons = Lessons(out, window, train[draw_probe(cities, probe, seed)], queries, near, control)
    if out.exists(_WHOLE):
        return lessons
    out.remove(LESSONS)
    firsts = range(0, steps, window)
    for number, first in enumerate(firsts):
        rows = np.stack([asks(step).ravel() for step in range(first, min(first + window, steps))])
        out.write_table(f"{_ASKED}/{_part(number)}", pa.table({"items": lists(rows, pa.int64())}))
    jobs = [partial(_gather, read, number, lessons, len(firsts), prompt) for number, read in enumerate(work)]
    (tasks if len(jobs) > 1 else here)(jobs)
    out.write_json(_WHOLE, {})
    return lessons


def _gather(read: Sequence[Span], number: int, lessons: Lessons, windows: int, prompt: PromptConfig) -> None:
    """The items of a span that each window asks for: prompts, labels, reference vectors and, if any, the teacher's."""
    span, *teacher = read

    def held(items: Int64) -> Int64:
        return np.unique(items[(items >= span.start) & (items < span.stop)])

    wanted = {_JUDGING: held(lessons.judges())}
    wanted |= {str(window): held(lessons.asked(window)) for window in range(windows)}
    every = np.unique(np.concatenate(list(wanted.values())))
    items, rows = span.read_items(Items.schema.names).take(pa.array(every - span.start)), every - span.start
    columns = {name: items.column(name) for name in ("item_index", "province", "city", "district")}
    columns |= {"prompt": full_prompts(items, prompt), "embedding": column(span.read_embeddings()[rows])}
    if teacher:
        columns["teacher"] = column(teacher[0].read_embeddings()[rows])
    table = pa.table(columns)
    for name, index in wanted.items():
        if len(index):
            some = table.take(pa.array(np.searchsorted(every, index)))
            lessons.out.write_table(f"{LESSONS}/{name}/{_part(number)}", some)


def _part(number: int) -> str:
    return f"part-{number:05d}.parquet"
