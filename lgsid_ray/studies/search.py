"""Search over λ and codebook sizes with Ray Tune and Optuna.

A trial is a run of the ordinary stages in the ordinary run directory, so whatever trials share (the catalogue, the
embeddings, the reward model …) is computed once and found again by its fingerprint. What all trials share is run
before the first one starts. Trials are judged on training items only; the held-out items stay unseen.
"""

import hashlib
import json
from collections.abc import Callable
from typing import Any

import numpy as np
import ray
from ray import tune
from ray.tune.search.optuna import OptunaSearch

from lgsid_ray.config import RunConfig, to_yaml
from lgsid_ray.errors import ConfigError, LgsidError
from lgsid_ray.execution.run import Run
from lgsid_ray.execution.storage import StageDir
from lgsid_ray.pipeline import execute, needed
from lgsid_ray.report.pareto import pareto_page

OBJECTIVES = {
    "geography": "max",  # T@5 of training queries, in the embeddings that are tokenised
    "meaning": "max",  # Similarity@5 of the same, in the reference space
    "collisions": "min",  # share of items that share their SID
    "distortion": "min",  # reconstruction error relative to the variance
}


def search(config: RunConfig, out: str, log: Callable[[str], None]) -> StageDir:
    """Run the search that `config.tune` describes; returns the folder with best.yaml, trials.json, pareto.html.

    Give the same command again after a kill: finished trials stay finished, the rest goes on. Tune notes the end of a
    trial a moment after it; one whose end it has missed starts again, and finds its stages done.

    Raises:
        ConfigError: nothing to search, λ is to be searched but nothing is aligned, or several trials would write to
            an object store at once.
        LgsidError: no trial finished.
    """
    space = _space(config)
    run = Run(out, config, log=log)
    if config.tune.concurrent > 1 and not run.home.is_local:
        raise ConfigError(f"tune.concurrent: {run.uri} has no locks, and trials share stages; set tune.concurrent=1")
    digest = hashlib.sha256(json.dumps(_identity(config), sort_keys=True).encode()).hexdigest()[:16]
    folder = run.home.child(f"tune/{digest}").make()
    _run_shared(run, space)
    grid = _tuner(config, run.uri, folder, digest, space).fit()
    results = [grid[number] for number in range(len(grid))]
    trials = [_record(result) for result in results if not result.error and result.metrics]
    if not trials:
        first = next((result.error for result in results if result.error), None)
        raise LgsidError(f"no trial of the search finished; the first failed with: {first}") from first
    log(f"search: {len(trials)} of {len(results)} trials finished")
    front = pareto_front(np.array([_costs(trial) for trial in trials]))
    best = nearest_to_ideal(np.array([_costs(trial) for trial in trials]), front)
    for index, trial in enumerate(trials):
        trial.update(pareto=bool(front[index]), best=index == best)
    folder.write_json("trials.json", trials)
    with folder.write("best.yaml") as file:
        file.write(to_yaml(apply(config, trials[best]["parameters"])).encode())
    with folder.write("pareto.html") as file:
        file.write(pareto_page(trials).encode())
    return folder


def apply(config: RunConfig, parameters: dict[str, Any]) -> RunConfig:
    """`config` with a trial's parameters put in their places."""
    tree = config.model_dump(mode="json", by_alias=True)
    if "lambda" in parameters:
        tree["align"]["lambda"] = parameters["lambda"]
    if "first_level" in parameters:
        later = len(config.tokenizer.sizes) - 1
        tree["tokenizer"]["sizes"] = [parameters["first_level"], *[parameters["later_levels"]] * later]
    return RunConfig.model_validate(tree)


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
        if config.tokenizer.embeddings != "aligned":
            raise ConfigError("tune.lambdas: λ is searched only where tokenizer.embeddings=aligned")
        space["lambda"] = tune.loguniform(*config.tune.lambdas)
    if config.tune.first_level and config.tune.later_levels:
        space["first_level"] = tune.choice(list(config.tune.first_level))
        space["later_levels"] = tune.choice(list(config.tune.later_levels))
    if not space:
        raise ConfigError("tune: nothing to search; set tune.lambdas, or tune.first_level and tune.later_levels")
    return space


def _identity(config: RunConfig) -> dict[str, Any]:
    """What makes two searches the same one. Another number of trials is another search, which finds the stages of
    the trials it shares with this one done."""
    tree = config.model_dump(mode="json", by_alias=True)
    del tree["tune"]["concurrent"]
    return {key: value for key, value in tree.items() if key not in ("ray", "report", "rank", "generate")}


def _run_shared(run: Run, space: dict[str, Any]) -> None:
    """Run every stage before `evaluate` that no searched parameter reaches."""
    searched = {"align"} if "lambda" in space else set()
    searched |= {"tokenizer"} if "first_level" in space else set()
    reached: set[str] = set()
    for stage in needed(run.config, "evaluate"):
        if searched & set(stage.sections) or reached & set(stage.inputs):
            reached.add(stage.name)
        else:
            run.execute(stage)


def _tuner(config: RunConfig, uri: str, folder: StageDir, name: str, space: dict[str, Any]) -> tune.Tuner:
    # A trial is a driver: it waits for the stages' own workers, which need every CPU there is. Tune wants something.
    trainable = tune.with_resources(
        tune.with_parameters(_trial, tree=config.model_dump(mode="json", by_alias=True), uri=uri),
        {"CPU": 0, "memory": 2**20},
    )
    experiment = folder.path(name)
    if tune.Tuner.can_restore(experiment, storage_filesystem=folder.arrow):
        return tune.Tuner.restore(
            experiment, trainable, resume_unfinished=True, restart_errored=True, storage_filesystem=folder.arrow
        )
    searcher = OptunaSearch(metric=list(OBJECTIVES), mode=list(OBJECTIVES.values()), seed=config.seed)
    return tune.Tuner(
        trainable,
        param_space=space,
        tune_config=tune.TuneConfig(
            search_alg=searcher, num_samples=config.tune.trials, max_concurrent_trials=config.tune.concurrent
        ),
        run_config=tune.RunConfig(name=name, storage_path=folder.path(), storage_filesystem=folder.arrow),
    )


def _trial(parameters: dict[str, Any], tree: dict[str, Any], uri: str) -> None:
    # In a task of its own, outside the trial's placement group: the stages' workers would otherwise be confined to
    # the trial's resources, which are next to none.
    task = ray.remote(_run_trial).options(num_cpus=0, scheduling_strategy="DEFAULT", max_retries=0)
    tune.report(ray.get(task.remote(parameters, tree, uri)))


def _run_trial(parameters: dict[str, Any], tree: dict[str, Any], uri: str) -> dict[str, float]:
    run = Run(uri, apply(RunConfig.model_validate(tree), parameters))
    execute(run, "evaluate")
    return measure(run)


def measure(run: Run) -> dict[str, float]:
    """The objectives of a finished run, from what its stages `evaluate` and `tokenise` wrote."""
    wanted = (run.config.tokenizer.embeddings, "train", 5)
    rows = run.directory("evaluate").read_json("metrics.json")["retrieval"]
    retrieval = next(row for row in rows if (row["space"], row["group"], row["k"]) == wanted)
    codebooks = run.directory("tokenise").read_json("metrics.json")
    return {
        "geography": retrieval["district"],
        "meaning": retrieval["similarity"],
        "collisions": codebooks["collision_rate"],
        "distortion": codebooks["relative_error"],
    }


def _record(result: Any) -> dict[str, Any]:
    parameters = {key: result.config[key] for key in ("lambda", "first_level", "later_levels") if key in result.config}
    return {"parameters": parameters, **{key: result.metrics[key] for key in OBJECTIVES}}


def _costs(trial: dict[str, Any]) -> list[float]:
    return [-trial[key] if mode == "max" else trial[key] for key, mode in OBJECTIVES.items()]
