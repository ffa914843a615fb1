"""The stages of click prediction: cells of trained rankers, and their table beside trivial baselines."""

from collections.abc import Sequence

from lgsid_ray.config import RunConfig
from lgsid_ray.execution.stage import Cell, Facts, Inputs
from lgsid_ray.execution.storage import StageDir
from lgsid_ray.recommend.log import Unusable
from lgsid_ray.recommend.rankers.experiment import Ranking
from lgsid_ray.recommend.rankers.table import facts, table
from lgsid_ray.recommend.summary import read_history
from lgsid_ray.recommend.training import HISTORY, METRICS, skip, train_cells


def train(config: RunConfig, cells: Sequence[Cell]) -> list[Facts]:
    """Train the cells' rankers side by side; each folder gets weights.safetensors, history.json and metrics.json.

    A cell reads the catalogue's items and interactions, and SIDs where it has a tokeniser. Without interactions, or
    where one class is all there is, each says so and ends.
    """
    try:
        ranking = Ranking.read(config.rank, cells[0].inputs["catalogue"], config.seed)
    except Unusable as reason:
        return [skip(cell.out, str(reason)) for cell in cells]
    return train_cells(ranking, config.rank, config.seed, cells)


def rank(config: RunConfig, inputs: Inputs, out: StageDir) -> Facts:
    """One table of all cells on the time-split test: metrics.json, and their curves: history.json."""
    try:
        ranking = Ranking.read(config.rank, inputs["catalogue"], config.seed)
    except Unusable as reason:
        return skip(out, str(reason))
    found = table(ranking, inputs)
    out.write_json(HISTORY, read_history(inputs))
    out.write_json(METRICS, found)
    return facts(found)
