"""The stages `reward` (Eq 2-4) and `align` (Eq 6-8): Ray Train and DeepSpeed around this room's numerics."""

from typing import Any

import numpy as np
import torch
import torch.distributed

from lgsid_ray.align.floor import FloorController
from lgsid_ray.align.lists import held_out, read_lists
from lgsid_ray.align.losses import gdpo_loss, listwise_loss, similarity_loss
from lgsid_ray.align.policy import Policy, save_policy
from lgsid_ray.align.probe import draw_probe, probe_metrics
from lgsid_ray.align.ranking import ranking_metrics, require_better_than_chance
from lgsid_ray.align.reward import RewardModel, margins, read_reward, write_reward
from lgsid_ray.align.triples import batch_rows, read_corpus, read_triples, training_cities
from lgsid_ray.artifacts import Embeddings, Items, Lists, Negatives, Triples
from lgsid_ray.config import RunConfig
from lgsid_ray.config.align import RewardConfig
from lgsid_ray.errors import ConfigError
from lgsid_ray.execution.engine import Engine
from lgsid_ray.execution.stage import Facts, Inputs
from lgsid_ray.execution.storage import StageDir
from lgsid_ray.execution.train import Scalars, fit, train_steps, warmup


def reward(config: RunConfig, inputs: Inputs, out: StageDir) -> Facts:
    """Train R on mismatched lists and judge it on held-out anchors: `reward.safetensors`, `metrics.json`.

    Raises:
        InputError: too few lists. ConfigError: a batch has no list for some worker.
        StorageError: lists and negatives do not belong together.
        GateError: held-out ranking no better than chance.
    """
    settings, lists = config.reward, Lists(inputs["embed_lists"])
    held = held_out(lists, settings.held_out, config.seed)
    smallest = min(settings.batch_size, int((~held).sum()))
    if smallest < settings.trainer.workers:
        raise ConfigError(
            f"reward.trainer.workers {settings.trainer.workers}: a batch has {smallest} lists, fewer than workers; "
            "set reward.trainer.workers lower, reward.batch_size higher or reward.held_out lower"
        )
    task = {"config": settings, "seed": config.seed, "inputs": dict(inputs)}
    trained = fit(_reward_loop, task, settings.trainer, out)
    vectors, labels = read_lists(lists, Negatives(inputs["sample"]))
    model = RewardModel(vectors.shape[2], settings.hidden, settings.input)
    model.load_state_dict(trained.weights)
    with torch.no_grad():
        scores = model(vectors[held, :1], vectors[held, 1:])
    metrics = ranking_metrics(scores.numpy(), labels[held].numpy())
    out.write_json("metrics.json", metrics)
    out.write_json("history.json", trained.history)
    require_better_than_chance(metrics, settings.allow_chance)
    write_reward(model, out)
    return {**metrics, "lists": len(held), "held_out": int(held.sum())}


def _reward_loop(settings: dict[str, Any]) -> None:
    import ray.train

    config: RewardConfig = settings["config"]
    lists, negatives = Lists(settings["inputs"]["embed_lists"]), Negatives(settings["inputs"]["sample"])
    context = ray.train.get_context()
    rank, world = context.get_world_rank(), context.get_world_size()
    vectors, labels = read_lists(lists, negatives)
    learn = np.flatnonzero(~held_out(lists, config.held_out, settings["seed"]))
    torch.manual_seed(settings["seed"])
    model = RewardModel(vectors.shape[2], config.hidden, config.input)
    engine = Engine(model, config.learning_rate, config.weight_decay, config.trainer.zero_stage)
    batch = min(config.batch_size, len(learn)) // world * world

    def step(number: int) -> tuple[torch.Tensor, dict[str, float]]:
        rows = learn[batch_rows(len(learn), batch, number, settings["seed"])[rank::world]]
        mine, targets = vectors[rows].to(engine.device), labels[rows].to(engine.device)
        loss = listwise_loss(engine.model(mine[:, :1], mine[:, 1:]), targets, config.loss)
        return loss, {"loss": loss.item()}

    steps = config.epochs * max(1, len(learn) // batch)
    train_steps(engine, steps, step, config.trainer.checkpoint_steps, settings["seed"])


def align(config: RunConfig, inputs: Inputs, out: StageDir) -> Facts:
    """Align the encoder by G-DPO: `adapter/`, `model/`, `history.json`, TensorBoard events.

    Raises:
        StorageError: the reward model or a checkpoint is corrupt. InputError: no triples.
        ConfigError: the encoder has no modules that `align.lora_targets` names.
    """
    # Both are made by every worker too, but Train starts a failed worker anew, several times over.
    read_reward(inputs["reward"])
    Policy(config.encoder, config.align)
    settings = {
        "align": config.align,
        "encoder": config.encoder,
        "seed": config.seed,
        "inputs": dict(inputs),
        "out": out,
    }
    trained = fit(_align_loop, settings, config.align.trainer, out)
    save_policy(config.encoder, config.align, trained.weights, out)
    out.write_json("history.json", trained.history)
    watched = [row for row in trained.history if "similarity" in row]
    first, last = watched[0], watched[-1]
    return {
        "steps": len(trained.history),
        "lambda": last["lambda"],
        "probe_similarity_ratio": last["similarity"] / first["similarity"],
        "probe_district": [first["district"], last["district"]],
        "margin": trained.history[-1]["margin"],
    }


def _align_loop(settings: dict[str, Any]) -> None:
    import ray.train

    config, encoder, inputs, seed = settings["align"], settings["encoder"], settings["inputs"], settings["seed"]
    context = ray.train.get_context()
    rank, world = context.get_world_rank(), context.get_world_size()
    items, triples = Items(inputs["catalogue"]), read_triples(Triples(inputs["prefer"]))
    train, cities = training_cities(items)
    probe = train[draw_probe(cities, config.probe, seed)]
    wanted = np.concatenate([triples.ravel(), probe])
    corpus = read_corpus(items, Embeddings(inputs["embed"]), wanted, encoder.prompt)
    torch.manual_seed(seed)
    engine = Engine(Policy(encoder, config), config.learning_rate, 0.0, config.trainer.zero_stage)
    policy: Policy = engine.model.module
    judge = read_reward(inputs["reward"]).to(engine.device)
    rows = corpus.rows(probe)
    districts = torch.from_numpy(corpus.districts[rows])
    origin = probe_metrics(corpus.reference[rows], corpus.reference[rows], districts)
    floor = FloorController(config.lambda_, config.floor, origin["similarity"])
    scalars = Scalars(settings["out"], rank)

    def watch() -> dict[str, float]:
        mine = policy.embed([corpus.prompts[row] for row in rows[rank::world]])
        found = probe_metrics(_gathered(mine, len(rows), rank, world), corpus.reference[rows], districts)
        floor.observe(found["similarity"])
        return found

    def step(number: int) -> tuple[torch.Tensor, dict[str, float]]:
        figures = {"similarity": origin["similarity"], "district": origin["district"]} if number == 0 else {}
        if number and number % config.probe_steps == 0:
            figures = watch()
        chosen = triples[batch_rows(len(triples), config.batch_size, number, seed)[rank::world]]
        asked = corpus.rows(chosen.T.ravel())
        embedded = engine.model([corpus.prompts[row] for row in asked])
        reference = corpus.reference[asked].to(engine.device)
        margin, still = margins(judge, *embedded.chunk(3)), margins(judge, *reference.chunk(3))
        preference = gdpo_loss(margin, still, config.beta)
        similarity = similarity_loss(embedded, reference, config.similarity, config.temperature)
        loss = preference + floor.value * similarity
        figures |= {"align_loss": preference.item(), "similarity_loss": similarity.item(), "lambda": floor.value}
        figures |= {"loss": loss.item(), "margin": (margin - still).mean().item()}
        if number + 1 == config.steps:  # the weights of the last step but one: what the history can still hold
            figures |= watch()
        scalars.add(number + 1, figures)
        return loss, figures

    train_steps(
        engine, config.steps, step, config.trainer.checkpoint_steps, seed, schedule=warmup(config.warmup), extra=floor
    )
    scalars.close()


def _gathered(mine: torch.Tensor, total: int, rank: int, world: int) -> torch.Tensor:
    """(total, dimension) on the CPU: rows that the ranks hold in turn, put together in order."""
    whole = torch.zeros(total, mine.shape[1], device=mine.device)
    whole[rank::world] = mine
    torch.distributed.all_reduce(whole)
    return whole.cpu()
