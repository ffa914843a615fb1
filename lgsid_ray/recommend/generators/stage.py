"""The stages of next-item generation: cells of trained generators, and their table beside trivial baselines."""

from collections.abc import Sequence

from lgsid_ray.config import RunConfig
from lgsid_ray.execution.stage import Cell, Facts, Inputs
from lgsid_ray.execution.storage import StageDir
from lgsid_ray.recommend.generators.experiment import Generation
from lgsid_ray.recommend.generators.table import facts, table
from lgsid_ray.recommend.log import Unusable
from lgsid_ray.recommend.summary import read_history
from lgsid_ray.recommend.training import HISTORY, METRICS, skip, train_cells


def train(config: RunConfig, cells: Sequence[Cell]) -> list[Facts]:
    """Train the cells' generators side by side; each folder gets weights.safetensors, history.json and metrics.json.

    A cell reads the catalogue's items and interactions, and SIDs. Without interactions, or without times to order
    them, each says so and ends.
    """
    try:
        generation = Generation.read(config.generate, cells[0].inputs["catalogue"], config.seed)
    except Unusable as reason:
        return [skip(cell.out, str(reason)) for cell in cells]
    return train_cells(generation, config.generate, config.seed, cells)


def generate(config: RunConfig, inputs: Inputs, out: StageDir) -> Facts:
    """One table of all cells, leave-last-out over the whole catalogue: metrics.json, and their curves: history.json."""
    try:
        generation = Generation.read(config.generate, inputs["catalogue"], config.seed)
    except Unusable as reason:
        return skip(out, str(reason))
    found = table(generation, inputs)
    out.write_json(HISTORY, read_history(inputs))
    out.write_json(METRICS, found)
    return facts(found)
