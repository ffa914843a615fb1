"""The stages: click prediction and next-item generation with SIDs. The only file of the room that imports Ray."""

from typing import Any

from safetensors.torch import save

from lgsid_ray.config import RunConfig
from lgsid_ray.recommend import fitting
from lgsid_ray.recommend.ctr import experiment as ranking
from lgsid_ray.recommend.generative import experiment as generation
from lgsid_ray.recommend.generative.sequences import build
from lgsid_ray.recommend.inputs import read_items, read_log
from lgsid_ray.run import Facts, Inputs
from lgsid_ray.storage import StageDir


def rank(config: RunConfig, inputs: Inputs, out: StageDir) -> Facts:
    """Train every ranker with and without SIDs and judge it on the time-split test beside trivial baselines.

    Reads catalogue (items, interactions) and tokenise (SIDs). Writes metrics.json, history.json and
    weights.safetensors. Without interactions, or where one class is all there is, it says so and ends.
    """
    section, items, log = config.rank, read_items(inputs), read_log(inputs)
    if log is None:
        return _skip(out, "the catalogue has no interactions")
    samples = ranking.samples(section, items, log, config.seed)
    reason = ranking.unusable(samples)
    if reason:
        return _skip(out, reason)
    panel = ranking.panel(section, items, config.seed)
    batches = ranking.batches(section, samples)
    best, history = fitting.fit(
        panel, batches, section.epochs, section.batch_size, section.learning_rate, section.weight_decay, config.seed
    )
    fitting.restore(panel, best.weights)
    metrics = ranking.judge(section, items, log, samples, panel)
    return _publish(out, metrics, history, best, metrics["facts"])


def generate(config: RunConfig, inputs: Inputs, out: StageDir) -> Facts:
    """Train every generator on SID sequences and judge it, leave-last-out, beside trivial baselines.

    Reads and writes as `rank` does. Without time stamps no order is invented: it says so and ends.
    """
    section, items, log = config.generate, read_items(inputs), read_log(inputs)
    if log is None:
        return _skip(out, "the catalogue has no interactions")
    if not log.timed:
        return _skip(out, "no time stamps: the interactions have no order to continue")
    sequences = build(log)
    reason = generation.unusable(sequences)
    if reason:
        return _skip(out, reason)
    panel = generation.panel(section, items, config.seed)
    batches = generation.batches(section, sequences, config.seed)
    best, history = fitting.fit(
        panel, batches, section.epochs, section.batch_size, section.learning_rate, section.weight_decay, config.seed
    )
    fitting.restore(panel, best.weights)
    metrics = generation.judge(section, items, sequences, panel, config.seed)
    return _publish(out, metrics, history, best, metrics["facts"])


def _skip(out: StageDir, reason: str) -> Facts:
    out.write_json("metrics.json", {"skipped": reason})
    out.write_json("history.json", [])
    return {"skipped": reason}


def _publish(out: StageDir, metrics: dict[str, Any], history: list[Any], best: fitting.Best, facts: Facts) -> Facts:
    with out.write("weights.safetensors") as file:
        file.write(save(best.weights))
    out.write_json("history.json", history)
    out.write_json("metrics.json", metrics)
    return facts
