"""Search over λ and codebook sizes: a study whose arms Ray Tune and Optuna propose.

Trials are ordinary runs in the ordinary run directory, so whatever they share is computed once and found again by its
fingerprint. That is also how a search is resumed: the same searcher with the same seed proposes the same trials, and
those that were finished are read off; with several trials at once only the first ten are sure to be the same, since
later proposals go by what has finished. Nothing that Tune pickles is kept in the run directory or read back from it.
Trials are judged on training items only; the held-out items stay unseen.
"""

import copy
import hashlib
import json
import tempfile
from typing import Any

import numpy as np
import ray
from ray import tune
from ray.tune.search.optuna import OptunaSearch

from lgsid_ray.config import RunConfig, Tree, assign, parse, to_yaml
from lgsid_ray.config.tokenizer import LEVELS
from lgsid_ray.errors import ConfigError, LgsidError
from lgsid_ray.execution.storage import StageDir, resolve
from lgsid_ray.report.pareto import pareto_page
from lgsid_ray.studies.runs import Log, Outcome, Setting, run_one
from lgsid_ray.studies.table import Summary, summarise, write

OBJECTIVES = {
    "geography": "max",  # T@5 of training queries, in the embeddings that are tokenised
    "meaning": "max",  # Similarity@5 of the same, in the reference space
    "collisions": "min",  # share of items that share their SID
    "distortion": "min",  # reconstruction error relative to the variance
}
MEASURES = {
    "geography": "frontier:retrieval[space={space},group=train,k=5].district",
    "meaning": "frontier:retrieval[space={space},group=train,k=5].similarity",
    "collisions": "tokenise:collision_rate",
    "distortion": "tokenise:relative_error",
}
"""Where they stand, see measures.py."""
UNTIL = ["frontier", "tokenise"]


def search(base: Tree, out: str, log: Log) -> tuple[StageDir, Summary]:
    """Run the search that the section `tune` describes; its folder has best.yaml, trials.json, pareto.html, table.*.

    Raises:
        ConfigError: nothing to search, or λ is to be searched but nothing is aligned.
        LgsidError: no trial finished.
    """
    config = parse(base, "the configuration")
    space = _space(config)
    folder = StageDir(resolve(out)).child(f"tune/{_digest(config)}").make()
    with tempfile.TemporaryDirectory(prefix="lgsid-tune-") as scratch:
        grid = _tuner(config, base, out, scratch, space).fit()
        results = [grid[number] for number in range(len(grid))]
    finished = [result for result in results if not result.error and result.metrics]
    if not finished:
        first = next((result.error for result in results if result.error), None)
        raise LgsidError(f"no trial of the search finished; the first failed with: {first}") from first
    log(f"search: {len(finished)} of {len(results)} trials finished")
    trials = [_record(result) for result in finished]
    costs = np.array([_costs(trial) for trial in trials])
    front = pareto_front(costs)
    best = nearest_to_ideal(costs, front)
    for index, trial in enumerate(trials):
        trial.update(pareto=bool(front[index]), best=index == best)
    _write(folder, trials, base)
    outcomes = [
        Outcome(_setting(base, trial["parameters"]), {name: trial[name] for name in OBJECTIVES}) for trial in trials
    ]
    summary = summarise("Search", list(OBJECTIVES), outcomes, {})
    write(folder, summary, outcomes)
    return folder, summary


def apply(base: Tree, parameters: dict[str, Any]) -> Tree:
    """`base` with a trial's parameters put in their places."""
    tree = copy.deepcopy(base)
    if "lambda" in parameters:
        assign(tree, "align.lambda", parameters["lambda"])
    if "first_level" in parameters:
        sizes = parse(base, "the configuration").tokenizer.sizes
        later = (LEVELS if sizes == "auto" else len(sizes)) - 1
        assign(tree, "tokenizer.sizes", [parameters["first_level"], *[parameters["later_levels"]] * later])
    return tree


def pareto_front(costs: np.ndarray) -> np.ndarray:
    """(n,) bool: which rows of `costs` (n, objectives; all to be minimised) no other row dominates."""
    no_worse = (costs[:, None, :] <= costs[None, :, :]).all(axis=2)
    better = (costs[:, None, :] < costs[None, :, :]).any(axis=2)
    return np.asarray(~(no_worse & better).any(axis=0))


def nearest_to_ideal(costs: np.ndarray, front: np.ndarray) -> int:
    """The row on the front nearest to the ideal point, each objective scaled to its range on the front.

    With several objectives there is no single best; this is the usual compromise, and the front stands beside it.
    """
    low, high = costs[front].min(axis=0), costs[front].max(axis=0)
    scaled = (costs - low) / np.where(high > low, high - low, 1.0)
    distance = np.where(front, np.linalg.norm(scaled, axis=1), np.inf)
    return int(distance.argmin())


def _space(config: RunConfig) -> dict[str, Any]:
    space: dict[str, Any] = {}
    if config.tune.lambdas is not None:
        if config.space != "aligned" or config.distilled:
            raise ConfigError(
                "tune.lambdas: λ is searched only where SIDs rest on embeddings aligned by preferences; set "
                "tokenizer.embeddings=aligned and align.objective=gdpo"
            )
        space["lambda"] = tune.loguniform(*config.tune.lambdas)
    if config.tune.first_level and config.tune.later_levels:
        space["first_level"] = tune.choice(list(config.tune.first_level))
        space["later_levels"] = tune.choice(list(config.tune.later_levels))
    if not space:
        raise ConfigError("tune: nothing to search; set tune.lambdas, or tune.first_level and tune.later_levels")
    return space


def _digest(config: RunConfig) -> str:
    """Of what makes two searches the same one; another number of trials is another search, which shares stages."""
    tree = config.model_dump(by_alias=True)  # in JSON, a source's path has no secrets and leads nowhere
    del tree["tune"]["concurrent"]
    kept = {key: value for key, value in tree.items() if key not in ("ray", "report", "rank", "generate")}
    return hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()[:16]


def _tuner(config: RunConfig, base: Tree, out: str, scratch: str, space: dict[str, Any]) -> tune.Tuner:
    # A trial is a driver: it waits for the stages' own workers, which need every CPU there is. It stays on this
    # machine, where `scratch` is.
    here = f"node:{ray.util.get_node_ip_address()}"
    trainable = tune.with_resources(tune.with_parameters(_trial, base=base, out=resolve(out)), {"CPU": 0, here: 0.001})
    searcher = OptunaSearch(metric=list(OBJECTIVES), mode=list(OBJECTIVES.values()), seed=config.seed)
    return tune.Tuner(
        trainable,
        param_space=space,
        tune_config=tune.TuneConfig(
            search_alg=searcher, num_samples=config.tune.trials, max_concurrent_trials=config.tune.concurrent
        ),
        run_config=tune.RunConfig(name="search", storage_path=scratch),
    )


def _trial(parameters: dict[str, Any], base: Tree, out: str) -> None:
    # In a task of its own, outside the trial's placement group: the stages' workers would otherwise be confined to
    # the trial's resources, which are next to none.
    task: Any = ray.remote(run_one).options(num_cpus=0, scheduling_strategy="DEFAULT", max_retries=0)
    found = ray.get(task.remote(_setting(base, parameters), out, UNTIL, MEASURES, print))
    if absent := [name for name, value in found.items() if value is None]:
        raise LgsidError(f"the catalogue has no figure for {', '.join(absent)} (districts, more than 5 items?)")
    tune.report(found)


def _setting(base: Tree, parameters: dict[str, Any]) -> Setting:
    config = parse(apply(base, parameters), "the configuration")
    return Setting(", ".join(f"{key} {value:.4g}" for key, value in parameters.items()), config.seed, config)


def _write(folder: StageDir, trials: list[dict[str, Any]], base: Tree) -> None:
    folder.write_json("trials.json", trials)
    chosen = next(trial for trial in trials if trial["best"])
    with folder.write("best.yaml") as file:
        file.write(to_yaml(parse(apply(base, chosen["parameters"]), "the configuration")).encode())
    with folder.write("pareto.html") as file:
        file.write(pareto_page(trials).encode())


def _record(result: Any) -> dict[str, Any]:
    parameters = {key: result.config[key] for key in ("lambda", "first_level", "later_levels") if key in result.config}
    return {"parameters": parameters, **{key: result.metrics[key] for key in OBJECTIVES}}


def _costs(trial: dict[str, Any]) -> list[float]:
    return [-trial[key] if mode == "max" else trial[key] for key, mode in OBJECTIVES.items()]
