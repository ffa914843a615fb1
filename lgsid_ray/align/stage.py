"""The stages `reward` (Eq 2-4) and `align` (Eq 6-8, or distillation): Ray Train and DeepSpeed around the numerics."""

from typing import Any

import numpy as np
import torch
import torch.distributed

from lgsid_ray.align.floor import FloorController, share_at
from lgsid_ray.align.lessons import Corpus, Lessons, prepare
from lgsid_ray.align.lists import held_out, read_lists
from lgsid_ray.align.losses import distillation_loss, gdpo_loss, listwise_loss, similarity_loss
from lgsid_ray.align.policy import Policy, save_policy
from lgsid_ray.align.probe import probe_metrics, similarities
from lgsid_ray.align.ranking import ranking_metrics, require_better_than_chance
from lgsid_ray.align.reward import RewardModel, margins, read_reward, write_reward
from lgsid_ray.align.triples import batch_rows, read_triples
from lgsid_ray.arrays import Int64
from lgsid_ray.artifacts import Items, Lists, Negatives, Triples
from lgsid_ray.config import RunConfig
from lgsid_ray.config.align import GdpoConfig, RewardConfig
from lgsid_ray.errors import ConfigError
from lgsid_ray.execution.engine import Engine
from lgsid_ray.execution.stage import Facts, Inputs
from lgsid_ray.execution.storage import StageDir
from lgsid_ray.execution.train import Scalars, Schedule, Stateful, Step, fit, train_steps, warmup


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
    """Align the encoder by `align.objective`: `adapter/`, `model/`, `history.json`, TensorBoard events.

    Raises:
        StorageError: the reward model or a checkpoint is corrupt. InputError: no triples.
        ConfigError: the encoder has no modules that `align.lora_targets` names.
    """
    # Both are made by every worker too, but Train starts a failed worker anew, several times over.
    preferring = isinstance(config.align, GdpoConfig)
    if preferring:
        read_reward(inputs["reward"])
    Policy(config.encoder, config.align)
    learnt = read_triples(Triples(inputs["prefer"])) if preferring else Items(inputs["catalogue"]).training()
    batch = config.align.batch_size
    if not preferring:
        workers = config.align.trainer.workers
        batch = min(batch, len(learnt) // workers * workers)

    def asks(step: int) -> Int64:
        return learnt[batch_rows(len(learnt), batch, step, config.seed)]

    read = {name: inputs[name] for name in ("catalogue", "embed", *(() if preferring else ("fuse",)))}
    steps = config.align.steps + 1  # the last looks at what they came to
    settings = {
        "align": config.align,
        "encoder": config.encoder,
        "seed": config.seed,
        "lessons": prepare(read, config.encoder.prompt, asks, steps, config.align.probe, config.seed, out),
        "reward": inputs["reward"] if preferring else None,
        "out": out,
    }
    loop = _preference_loop if preferring else _distillation_loop
    trained = fit(loop, settings, config.align.trainer, out)
    last = trained.history[-1]
    save_policy(config.encoder, config.align, trained.weights, out, last["share"])
    out.write_json("history.json", trained.history)
    return {
        "steps": config.align.steps,
        "share": last["share"],
        "probe_similarity_ratio": last["kept"],
        **{name: last[name] for name in ("lambda", "margin") if name in last},
    }


def _preference_loop(settings: dict[str, Any]) -> None:
    """G-DPO (Eq 6-8)."""
    config, bench = settings["align"], _Bench(settings)
    judge = read_reward(settings["reward"]).to(bench.engine.device)
    floor = FloorController(config.lambda_, config.floor, bench.origin["similarity"])

    def step(number: int) -> tuple[torch.Tensor, dict[str, float]]:
        figures = bench.watched(number)
        if 0 < number < config.steps and "similarity" in figures:
            floor.observe(figures["similarity"])
        corpus, asked = bench.lesson(number)
        mine = asked.reshape(-1, 3)[bench.rank :: bench.world].T.ravel()  # anchors, then i+, then i-
        embedded, reference = bench.embedded(corpus, mine)
        margin, still = margins(judge, *embedded.chunk(3)), margins(judge, *reference.chunk(3))
        preference = gdpo_loss(margin, still, config.beta)
        similarity = similarity_loss(embedded, reference, config.similarity, config.temperature)
        loss = preference + floor.value * similarity
        figures |= {"align_loss": preference.item(), "similarity_loss": similarity.item(), "lambda": floor.value}
        figures |= {"loss": loss.item(), "margin": (margin - still).mean().item()}
        bench.scalars.add(number + 1, figures)
        return loss, figures

    bench.train(step, warmup(config.warmup), floor)


def _distillation_loop(settings: dict[str, Any]) -> None:
    """The encoder learns to embed as its teacher, the fused embeddings of the same items."""
    config, bench = settings["align"], _Bench(settings)

    def step(number: int) -> tuple[torch.Tensor, dict[str, float]]:
        figures = bench.watched(number)
        corpus, rows = bench.lesson(number)
        assert corpus.teacher is not None
        embedded, _ = bench.embedded(corpus, rows[bench.rank :: bench.world])
        taught = corpus.teacher[rows].to(bench.engine.device)
        mine, whole = taught[bench.rank :: bench.world], bench.gathered(embedded.detach(), len(rows))
        loss = distillation_loss(embedded, mine, whole, taught, config.relations)
        figures |= {"loss": loss.item(), "cosine": (embedded * mine).sum(dim=1).mean().item()}
        bench.scalars.add(number + 1, figures)
        return loss, figures

    bench.train(step, lambda number: warmup(config.warmup)(number) * (1 - number / config.steps))


class _Bench:
    """What the loops share on a worker: the policy in its engine, the lessons of the window at work, and the probe."""

    def __init__(self, settings: dict[str, Any]) -> None:
        import ray.train

        config, encoder, seed = settings["align"], settings["encoder"], settings["seed"]
        context = ray.train.get_context()
        self.rank, self.world = context.get_world_rank(), context.get_world_size()
        torch.manual_seed(seed)
        self.engine = Engine(Policy(encoder, config), config.learning_rate, 0.0, config.trainer.zero_stage)
        self.scalars = Scalars(settings["out"], self.rank)
        self._config, self._seed = config, seed
        self._lessons: Lessons = settings["lessons"]
        self._window: tuple[int, Corpus, Int64] | None = None
        self._judging = self._lessons.judging()
        self._probe, self._queries, self._around = map(
            self._judging.rows, (self._lessons.probe, self._lessons.queries, self._lessons.around)
        )
        self.origin = self._watched(self._judging.reference[self._probe])

    def lesson(self, step: int) -> tuple[Corpus, Int64]:
        """The items of the step's window, and the rows of them that the step asks for, over all ranks."""
        window = self._lessons.window(step)
        if self._window is None or self._window[0] != window:
            self._window = None  # the one before goes first
            corpus = self._lessons.corpus(window)
            self._window = window, corpus, corpus.rows(self._lessons.asked(window))
        _, corpus, asked = self._window
        return corpus, asked[step % self._lessons.steps]

    def embedded(self, corpus: Corpus, rows: Int64) -> tuple[torch.Tensor, torch.Tensor]:
        """Policy embeddings, with gradients, and reference embeddings of rows of a corpus."""
        embedded = self.engine.model([corpus.prompts[row] for row in rows])
        return embedded, corpus.reference[rows].to(self.engine.device)

    def gathered(self, mine: torch.Tensor, total: int) -> torch.Tensor:
        """(total, dimension): rows that the ranks hold in turn, put together in order."""
        whole = torch.zeros(total, mine.shape[1], device=mine.device)
        whole[self.rank :: self.world] = mine
        torch.distributed.all_reduce(whole)
        return whole

    def watched(self, number: int) -> dict[str, float]:
        """The probe's figures before step `number`, if it is one at which they are looked at.

        Behind the last step, the share of the adapters that holds the floor, and what it keeps.
        """
        if number == 0:
            return self.origin
        if number == self._config.steps:
            return self._settled()
        return self._watched(self._embed(self._probe)) if number % self._config.probe_steps == 0 else {}

    def _settled(self) -> dict[str, float]:
        """`share` and `kept`, of the queries beside their neighbours in the whole catalogue."""
        policy: Policy = self.engine.model.module
        rows, asked = np.concatenate([self._queries, self._around]), len(self._queries)
        reference, control = self._judging.reference[rows], self._lessons.control
        origin = similarities(reference, reference, asked)

        def kept(share: float) -> float:
            policy.scale(share)
            lost = origin - similarities(self._embed(rows), reference, asked)
            return 1 - self._told([control.adjusted(lost) if control else float(lost.mean())])[0] / float(origin.mean())

        free = isinstance(self._config, GdpoConfig) and self._config.lambda_ != "auto"
        share, left = (1.0, kept(1.0)) if free else share_at(self._config.floor, kept)
        policy.scale(1.0)
        return {"share": share, "kept": left}

    def _embed(self, rows: Int64) -> torch.Tensor:
        """(m, dimension) policy embeddings of rows of what judges, on the CPU; every rank does its share."""
        policy: Policy = self.engine.model.module
        mine = policy.embed([self._judging.prompts[row] for row in rows[self.rank :: self.world]])
        return self.gathered(mine, len(rows)).cpu()

    def _watched(self, embedded: torch.Tensor) -> dict[str, float]:
        """Similarity@5 and T@5 of the probe's embeddings."""
        reference, districts = self._judging.reference[self._probe], self._judging.districts[self._probe]
        found = probe_metrics(embedded, reference, torch.from_numpy(districts))
        return dict(zip(found, self._told(list(found.values())), strict=True))

    def _told(self, figures: list[float]) -> list[float]:
        """Rank 0's word: ranks that differed in a last digit could differ in whether they look again, and wait on."""
        told = torch.tensor(figures, dtype=torch.float64, device=self.engine.device)
        torch.distributed.all_reduce(told if self.rank == 0 else told.zero_())
        return [float(figure) for figure in told]

    def train(self, step: Step, schedule: Schedule, extra: Stateful | None = None) -> None:
        """Take all steps, and one more, at a learning rate of zero, that looks at what they came to."""
        steps, every = self._config.steps, self._config.trainer.checkpoint_steps

        def rate(number: int) -> float:
            return schedule(number) if number < steps else 0.0

        train_steps(self.engine, steps + 1, step, every, self._seed, schedule=rate, extra=extra)
        self.scalars.close()
