"""Reward and alignment on two real Train workers: the weights of a plain loop, the curves."""

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load as load_tensors

from lgsid_ray.align import lessons, stage
from lgsid_ray.align.losses import gdpo_loss, similarity_loss
from lgsid_ray.align.policy import Policy
from lgsid_ray.align.reward import margins, read_reward
from lgsid_ray.align.triples import batch_rows, read_triples
from lgsid_ray.artifacts import Embeddings, Items, Triples
from lgsid_ray.config import load
from lgsid_ray.encoder.model import load_model
from lgsid_ray.encoder.prompts import full_prompts
from lgsid_ray.errors import ConfigError
from lgsid_ray.execution.run import Run
from lgsid_ray.execution.storage import StageDir
from lgsid_ray.pipeline import execute

pytestmark = pytest.mark.usefixtures("ray_local")

SETTINGS = {
    "catalogue.source.items": 120,
    "catalogue.source.users": 30,
    "catalogue.source.events_per_user": 8,
    "catalogue.source.towns": 6,
    "sampling.negatives": 4,
    "reward.epochs": 3,
    "reward.hidden": 16,
    "reward.batch_size": 16,
    "reward.allow_chance": True,
    "preference.triples": 40,
    "align.enabled": True,
    "align.steps": 4,
    "align.batch_size": 8,
    "align.warmup": 1,
    "align.learning_rate": 0.01,
    "align.lambda": 0.5,
    "align.lora_dropout": 0,
    "align.probe": 40,
    "align.probe_steps": 2,
    "align.trainer.checkpoint_steps": 3,
}


@pytest.fixture(scope="module")
def run(ray_local: None, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """The stages up to `align`, with a random BERT of width 16 in MiniLM's place."""
    from transformers import BertConfig, BertModel

    model = str(tmp_path_factory.mktemp("model"))
    tokenizer, _ = load_model("minilm")
    torch.manual_seed(0)
    size = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    BertModel(BertConfig(vocab_size=len(tokenizer), initializer_range=0.3, **size)).save_pretrained(model)
    tokenizer.save_pretrained(model)
    settings = [f"{key}={value}" for key, value in SETTINGS.items()]
    run = Run(str(tmp_path_factory.mktemp("runs") / "run"), load(None, [*settings, f"encoder.model={model}"]))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lessons, "WINDOW_ROWS", 48)  # two steps, so that workers turn from window to window
        patch.setattr(lessons, "SPAN_ROWS", 50)  # three tasks
        execute(run, "align")
    return run


def inputs(run: Run) -> dict[str, StageDir]:
    return {name: run.directory(name) for name in ("catalogue", "embed", "reward", "prefer")}


def plain_alignment(run: Run) -> tuple[dict[str, torch.Tensor], list[float]]:
    """(LoRA matrices by name, margin of the whole batch at every step) of G-DPO without Ray and DeepSpeed."""
    config, encoder, found, seed = run.config.align, run.config.encoder, inputs(run), run.config.seed
    triples = read_triples(Triples(found["prefer"]))
    items, embeddings = Items(found["catalogue"]), Embeddings(found["embed"])
    prompts, vectors = full_prompts(items.read(), encoder.prompt), torch.tensor(embeddings.of(np.arange(120)))
    judge = read_reward(found["reward"])
    torch.manual_seed(seed)
    policy = Policy(encoder, config)
    learning = {name: parameter for name, parameter in policy.named_parameters() if parameter.requires_grad}
    optimiser = torch.optim.AdamW(learning.values(), lr=config.learning_rate, weight_decay=0.0)
    seen = []
    for number in range(config.steps):
        optimiser.param_groups[0]["lr"] = config.learning_rate * min(1.0, (number + 1) / (config.warmup + 1))
        chosen = triples[batch_rows(len(triples), config.batch_size, number, seed)].T
        anchor, positive, negative = (policy([prompts[item] for item in column]) for column in chosen)
        still = [vectors[column] for column in chosen]
        margin, reference = margins(judge, anchor, positive, negative), margins(judge, *still)
        preference = gdpo_loss(margin, reference, config.beta)
        similarity = similarity_loss(torch.cat([anchor, positive, negative]), torch.cat(still), "anchor", 1.0)
        optimiser.zero_grad()
        (preference + 0.5 * similarity).backward()
        torch.nn.utils.clip_grad_norm_(learning.values(), 1.0)
        optimiser.step()
        seen.append((margin - reference).mean().item())
    return {name: parameter.detach() for name, parameter in learning.items()}, seen


def test_two_workers_align_as_a_plain_loop_does(run: Run) -> None:
    expected, seen = plain_alignment(run)
    saved = load_tensors(run.directory("align").read("adapter/adapter_model.safetensors"))
    assert len(saved) == len(expected)
    for name, value in saved.items():
        mine = expected[f"network.{name.removesuffix('.weight')}.default.weight"]
        assert torch.allclose(value, mine, atol=1e-4), (name, (value - mine).abs().max())
        assert value.abs().max() > 1e-3, "both matrices have left zero"
    assert seen[0] == pytest.approx(0, abs=1e-5)
    assert max(abs(margin) for margin in seen[1:]) > 1e-4


def test_the_history_holds_every_curve(run: Run) -> None:
    out = run.directory("align")
    history = out.read_json("history.json")
    assert [row["step"] for row in history] == [1, 2, 3, 4, 5]  # the last learns nothing: it looks at what there is
    for row in history:
        assert {"align_loss", "similarity_loss", "loss", "margin", "lambda"} <= set(row)
        assert row["lambda"] == 0.5
    assert [row["step"] for row in history if {"similarity", "district"} <= set(row)] == [1, 3]
    assert history[-1]["share"] == 1.0  # λ is a number
    assert 0 < history[-1]["kept"] <= 1
    assert abs(history[0]["margin"]) < 1e-5
    assert len(list(Path(out.path("tensorboard")).glob("events.out.tfevents.*"))) == 1


def test_the_reward_stands_beside_chance(run: Run) -> None:
    metrics = run.directory("reward").read_json("metrics.json")
    assert {"accuracy", "ndcg", "tau", "tau_error"} <= set(metrics)
    assert 0 < metrics["accuracy_chance"] < 1
    assert 0 < metrics["ndcg_chance"] < 1
    manifest = run.manifest("reward")
    assert manifest is not None
    lists = run.directory("embed_lists").read_table("lists", ["item_index"])
    assert manifest.facts["lists"] == len(lists)
    assert manifest.facts["held_out"] == metrics["lists"]


def test_a_misspelt_module_is_refused_before_workers_start(run: Run, tmp_path: Path) -> None:
    config = load(None, ['align.lora_targets=["key","valeu"]', f"encoder.model={run.config.encoder.model}"])
    with pytest.raises(ConfigError, match="valeu"):
        stage.align(config, inputs(run), StageDir(str(tmp_path)))
    assert not any(tmp_path.iterdir())
