"""The stages `reward` and `align` on one worker: every knob counts, nothing held out leaks, what is torn is named."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
import torch
from safetensors.torch import load as load_tensors

from lgsid_ray.align import stage
from lgsid_ray.align.floor import MOST
from lgsid_ray.align.lists import held_out, read_lists
from lgsid_ray.align.ranking import ranking_metrics
from lgsid_ray.align.reward import RewardModel, read_reward
from lgsid_ray.artifacts import Embeddings, Lists, Negatives
from lgsid_ray.artifacts.embeddings import column, vectors
from lgsid_ray.config import RunConfig
from lgsid_ray.config.align import DistilConfig, GdpoConfig, RewardConfig
from lgsid_ray.encoder.model import TextEncoder
from lgsid_ray.encoder.prompts import full_prompts
from lgsid_ray.errors import ConfigError, GateError, InputError, StorageError
from lgsid_ray.execution.storage import StageDir

Inputs = dict[str, StageDir]
Configure = Callable[..., RunConfig]
pytestmark = pytest.mark.usefixtures("plain_harness")


def altered(inputs: Inputs, name: str, table: str, change: Callable[[pa.Table], pa.Table], folder: Path) -> Inputs:
    """`inputs` with one table changed."""
    other = StageDir(f"{folder}/altered-{name}").make()
    other.write_table(f"{table}/part-00000.parquet", change(inputs[name].read_table(table)))
    return {**inputs, name: other}


def reward(config: RunConfig, inputs: Inputs, folder: Path) -> StageDir:
    out = StageDir(str(folder)).make()
    stage.reward(config, inputs, out)
    return out


def align(config: RunConfig, inputs: Inputs, folder: Path) -> StageDir:
    out = StageDir(str(folder)).make()
    stage.align(config, inputs, out)
    return out


def adapter(out: StageDir) -> dict[str, np.ndarray]:
    return {name: value.numpy() for name, value in load_tensors(out.read("adapter/adapter_model.safetensors")).items()}


def differ(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> bool:
    return set(one) != set(other) or any(not np.array_equal(one[name], other[name]) for name in one)


def test_reward_reports_what_its_saved_weights_score_on_the_held_out_lists(
    inputs: Inputs, configure: Configure, tmp_path: Path
) -> None:
    config = configure()
    out = StageDir(f"{tmp_path}/reward").make()
    facts = stage.reward(config, inputs, out)
    held = held_out(Lists(inputs["embed_lists"]), config.reward.held_out, config.seed)
    assert facts["lists"] == len(held) == 40
    assert facts["held_out"] == held.sum() == 8
    embedded, labels = read_lists(Lists(inputs["embed_lists"]), Negatives(inputs["sample"]))
    model = read_reward(out)
    expected = ranking_metrics(model(embedded[held, :1], embedded[held, 1:]).numpy(), labels[held].numpy())
    metrics = out.read_json("metrics.json")
    assert metrics == pytest.approx(expected)
    assert {"accuracy", "accuracy_chance", "ndcg", "ndcg_chance", "tau", "tau_error"} <= set(metrics)
    losses = [row["loss"] for row in out.read_json("history.json")]
    assert len(losses) == config.reward.epochs * (32 // config.reward.batch_size)
    assert np.mean(losses[-4:]) < np.mean(losses[:4])


def test_reward_learns_nothing_from_held_out_lists(inputs: Inputs, configure: Configure, tmp_path: Path) -> None:
    """Other vectors in the held-out lists change the verdict and no weight."""
    config = configure()
    held = held_out(Lists(inputs["embed_lists"]), config.reward.held_out, config.seed)

    def spoil(table: pa.Table) -> pa.Table:
        other = vectors(table).copy()
        other[held] = np.random.default_rng(0).standard_normal(other[held].shape)
        return table.set_column(table.column_names.index("embedding"), "embedding", column(other))

    one = reward(config, inputs, tmp_path / "one")
    other = reward(config, altered(inputs, "embed_lists", "lists", spoil, tmp_path), tmp_path / "other")
    assert one.read("reward.safetensors") == other.read("reward.safetensors")
    assert one.read_json("metrics.json") != other.read_json("metrics.json")


def test_reward_is_refused_when_distances_are_noise(inputs: Inputs, configure: Configure, tmp_path: Path) -> None:
    rng = np.random.default_rng(3)

    def shuffle(table: pa.Table) -> pa.Table:
        noise = pa.array(list(rng.random((len(table), 4), dtype=np.float32)), pa.list_(pa.float32()))
        return table.set_column(table.column_names.index("distance_km"), "distance_km", noise)

    noisy = altered(inputs, "sample", "negatives", shuffle, tmp_path)
    with pytest.raises(GateError, match=r"no better than chance.*reward\.allow_chance"):
        reward(configure("reward.allow_chance=false"), noisy, tmp_path / "refused")
    refused = StageDir(f"{tmp_path}/refused")
    assert refused.exists("metrics.json"), "the figures behind the refusal can be read"
    assert not refused.exists("reward.safetensors")
    reward(configure("reward.allow_chance=true"), noisy, tmp_path / "allowed")


def test_lists_that_cannot_be_trained_on_are_refused(inputs: Inputs, configure: Configure, tmp_path: Path) -> None:
    few = altered(inputs, "embed_lists", "lists", lambda table: table.slice(0, 9), tmp_path)
    with pytest.raises(InputError, match="9 anchors are too few"):
        reward(configure(), few, tmp_path / "few")
    mixed = altered(inputs, "embed_lists", "lists", lambda table: table.take(list(range(39, -1, -1))), tmp_path)
    with pytest.raises(StorageError, match="do not belong together"):
        reward(configure(), mixed, tmp_path / "mixed")
    for override in ("reward.batch_size=1", "reward.held_out=0.99"):
        with pytest.raises(ConfigError, match=r"reward\.trainer\.workers"):
            reward(configure(override), inputs, tmp_path / "idle")


def test_every_field_of_the_reward_counts(inputs: Inputs, configure: Configure, tmp_path: Path) -> None:
    changed = {
        "input": "single",
        "loss": "listnet",
        "hidden": 9,
        "epochs": 3,
        "batch_size": 10,
        "learning_rate": 0.01,
        "weight_decay": 5.0,
        "held_out": 0.5,
    }
    # `allow_chance` only opens the gate (tested above); how training is spread must change nothing.
    assert set(changed) | {"allow_chance", "trainer"} == set(RewardConfig.model_fields)
    plain = load_tensors(reward(configure(), inputs, tmp_path / "plain").read("reward.safetensors"))
    assert set(plain) == {"layers.0.weight", "layers.0.bias", "layers.2.weight", "layers.2.bias"}
    for field, value in changed.items():
        out = reward(configure(f"reward.{field}={value}"), inputs, tmp_path / field)
        other = load_tensors(out.read("reward.safetensors"))
        assert any(not torch.equal(plain[name], other[name]) for name in plain), field


def test_every_field_of_alignment_counts(trained_reward: Inputs, configure: Configure, tmp_path: Path) -> None:
    base = ["align.similarity=infonce", "align.probe_steps=1", "align.floor=0.99"]
    changed = {
        "beta": 3.0,
        "lambda_": 2.5,
        "floor": 1.0,
        "similarity": "literal",
        "temperature": 0.5,
        "steps": 5,
        "batch_size": 12,
        "learning_rate": 0.01,
        "warmup": 3,
        "lora_rank": 3,
        "lora_alpha": 5,
        "lora_dropout": 0.5,
        "lora_targets": '["query"]',
        "dtype": "bfloat16",
        "probe": 13,
        "probe_steps": 2,
    }
    # How training is spread must change nothing.
    assert set(changed) | {"objective", "enabled", "trainer"} == set(GdpoConfig.model_fields)
    plain = adapter(align(configure(*base), trained_reward, tmp_path / "plain"))
    again = adapter(align(configure(*base), trained_reward, tmp_path / "again"))
    assert not differ(plain, again)
    for field, value in changed.items():
        config = configure(*base, f"align.{field.rstrip('_')}={value}")
        assert differ(plain, adapter(align(config, trained_reward, tmp_path / field))), field


def test_every_field_of_distillation_counts(inputs: Inputs, configure: Configure, tmp_path: Path) -> None:
    base = ["align.objective=distil", "align.lora_dropout=0.1"]
    changed = {
        "relations": 1.0,
        "steps": 5,
        "batch_size": 12,
        "learning_rate": 0.01,
        "warmup": 3,
        "lora_rank": 3,
        "lora_alpha": 5,
        "lora_dropout": 0.5,
        "lora_targets": '["query"]',
        "dtype": "bfloat16",
    }
    # The probe is only looked at, and the floor is that of the share (tested below).
    looked = {"floor", "probe", "probe_steps"}
    assert set(changed) | looked | {"objective", "enabled", "trainer"} == set(DistilConfig.model_fields)
    plain = adapter(align(configure(*base), inputs, tmp_path / "plain"))
    assert not differ(plain, adapter(align(configure(*base), inputs, tmp_path / "again")))
    for field, value in changed.items():
        config = configure(*base, f"align.{field}={value}")
        assert differ(plain, adapter(align(config, inputs, tmp_path / field))), field


def test_distillation_nears_its_teacher_and_learns_from_training_items_alone(
    inputs: Inputs, configure: Configure, tmp_path: Path
) -> None:
    config = configure("align.objective=distil", "align.steps=60", "align.learning_rate=0.01", "align.batch_size=24")
    out = StageDir(f"{tmp_path}/out").make()
    facts = stage.align(config, inputs, out)
    history = out.read_json("history.json")
    cosines = [row["cosine"] for row in history]
    assert 1 - np.mean(cosines[-5:]) < 0.5 * (1 - cosines[0])
    assert facts.keys() == {"steps", "share", "probe_similarity_ratio"}

    def turn(table: pa.Table) -> pa.Table:
        held = table.column("item_index").to_numpy() % 8 == 0
        rows = vectors(table).copy()
        rows[held] = np.roll(rows[held], 1, axis=1)
        return table.set_column(table.column_names.index("embedding"), "embedding", column(rows))

    turned = altered(inputs, "fuse", "embeddings", turn, tmp_path)
    other = StageDir(f"{tmp_path}/turned").make()
    share = stage.align(config, turned, other)["share"]  # which is measured on the whole catalogue
    for name, matrix in adapter(other).items():
        if "lora_B" in name:
            np.testing.assert_allclose(matrix / share, adapter(out)[name] / facts["share"], rtol=1e-5, atol=1e-9)
        else:
            assert np.array_equal(matrix, adapter(out)[name])


def test_the_saved_model_keeps_the_floor(
    inputs: Inputs, configure: Configure, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lgsid_ray.align.floor.CLOSE", 1e-5)  # a model as small as this loses little in all
    settings = ("align.objective=distil", "align.steps=40", "align.learning_rate=0.02", "align.probe=1000")
    free = stage.align(configure(*settings, "align.floor=0.1"), inputs, StageDir(f"{tmp_path}/free").make())
    assert free["share"] == MOST
    lost = 1 - free["probe_similarity_ratio"]
    config = configure(*settings, f"align.floor={1 - lost / 4}")
    out = StageDir(f"{tmp_path}/held").make()
    facts = stage.align(config, inputs, out)
    assert facts["share"] < 0.8 * MOST
    assert 1 - facts["probe_similarity_ratio"] == pytest.approx(lost / 4, rel=0.6)
    # The probe asks for more than there are: all are queries, and the word is exact.
    items = inputs["catalogue"].read_table("items")
    reference = Embeddings(inputs["embed"]).of(np.arange(len(items)))
    saved = TextEncoder.load(out.path("model")).encode(full_prompts(items, config.encoder.prompt))
    similarities = [similarity(space, reference) for space in (saved, reference)]
    assert similarities[0] / similarities[1] == pytest.approx(facts["probe_similarity_ratio"], abs=1e-4)


def similarity(space: np.ndarray, reference: np.ndarray) -> float:
    scores = space @ space.T
    np.fill_diagonal(scores, -np.inf)
    found = np.argsort(-scores, axis=1)[:, :5]
    return float(np.mean([row @ reference[near].T for row, near in zip(reference, found, strict=True)]))


def test_alignment_starts_at_the_stored_reference(trained_reward: Inputs, configure: Configure, tmp_path: Path) -> None:
    """At step 1 the margin is 0 against the embedding table, and not 0 against another table: it is read."""
    out = align(configure(), trained_reward, tmp_path / "out")
    history = out.read_json("history.json")
    assert abs(history[0]["margin"]) < 1e-5
    assert history[0]["align_loss"] == pytest.approx(np.log(2), abs=1e-5)
    assert history[0]["similarity_loss"] == pytest.approx(0, abs=1e-9)
    assert history[-1]["margin"] != pytest.approx(0, abs=1e-3)

    def turn(table: pa.Table) -> pa.Table:
        turned = column(np.roll(vectors(table), 1, axis=1))
        return table.set_column(table.column_names.index("embedding"), "embedding", turned)

    turned = altered(trained_reward, "embed", "embeddings", turn, tmp_path)
    history = align(configure(), turned, tmp_path / "turned").read_json("history.json")
    assert abs(history[0]["margin"]) > 1e-3
    assert history[0]["similarity_loss"] > 0.1


def test_alignment_raises_the_margin_and_lambda_holds_the_embeddings(
    trained_reward: Inputs, configure: Configure, tmp_path: Path
) -> None:
    ends = []
    for weight in (0, 50):
        config = configure("align.steps=12", f"align.lambda={weight}", "align.lora_dropout=0")
        out = StageDir(f"{tmp_path}/{weight}").make()
        facts = stage.align(config, trained_reward, out)
        history = out.read_json("history.json")
        assert facts["steps"] == 12
        assert facts["lambda"] == weight
        assert facts["margin"] == history[-1]["margin"]
        assert facts["probe_similarity_ratio"] == history[-1]["kept"]
        assert facts["share"] == 1.0
        assert [row["step"] for row in history if "district" in row] == [1, 3, 5, 7, 9, 11]
        for row in history:
            assert row["loss"] == pytest.approx(row["align_loss"] + row["lambda"] * row["similarity_loss"])
        ends.append(history[-1])
    assert ends[0]["margin"] > 0.05
    assert ends[0]["align_loss"] < np.log(2)
    assert ends[0]["similarity_loss"] > 2 * ends[1]["similarity_loss"] > 0


def test_curves_are_written_for_tensorboard(trained_reward: Inputs, configure: Configure, tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    out = align(configure(), trained_reward, tmp_path / "out")
    events = EventAccumulator(out.path("tensorboard")).Reload()
    history = out.read_json("history.json")
    for name in ("align_loss", "similarity_loss", "loss", "margin", "lambda", "similarity", "district"):
        rows = [(row["step"], row[name]) for row in history if name in row]
        drawn = [(event.step, event.value) for event in events.Scalars(name)]
        assert [step for step, _ in drawn] == [step for step, _ in rows], name
        assert [value for _, value in drawn] == pytest.approx([value for _, value in rows], abs=1e-6), name


def test_items_held_out_are_neither_aligned_nor_watched(
    trained_reward: Inputs, configure: Configure, tmp_path: Path
) -> None:
    """Other names for the held-out items change no weight and no figure but the share's, of the whole catalogue."""
    config = configure()

    def rename(table: pa.Table) -> pa.Table:
        names = pc.if_else(pc.equal(table.column("split"), "train"), table.column("name"), "somewhere else")
        return table.set_column(table.column_names.index("name"), "name", names)

    one = align(config, trained_reward, tmp_path / "one")
    renamed = altered(trained_reward, "catalogue", "items", rename, tmp_path)
    other = align(config, renamed, tmp_path / "other")
    assert not differ(adapter(one), adapter(other))  # the share is at its bound in both
    histories = [out.read_json("history.json") for out in (one, other)]
    assert histories[0][-1]["share"] == histories[1][-1]["share"] == MOST
    assert histories[0][:-1] == histories[1][:-1]


@pytest.mark.parametrize("damage", ["torn", "of another width", "missing"])
def test_a_damaged_reward_model_is_named_with_the_remedy(
    trained_reward: Inputs, configure: Configure, tmp_path: Path, damage: str
) -> None:
    folder = trained_reward["reward"]
    whole = folder.read("reward.safetensors")
    assert isinstance(read_reward(folder), RewardModel)
    if damage == "torn":
        Path(folder.path("reward.safetensors")).write_bytes(whole[: len(whole) // 2])
    elif damage == "of another width":
        folder.write_json("reward.json", {**folder.read_json("reward.json"), "hidden": 9})
    else:
        Path(folder.path("reward.safetensors")).unlink()
    with pytest.raises(
        StorageError, match=r"(?s)reward\.safetensors is (corrupt|missing).*delete .*reward and run again"
    ):
        align(configure(), trained_reward, tmp_path / "out")
    shutil.rmtree(folder.path())
