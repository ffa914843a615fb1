"""The configuration tree: round trips, and refusals that name the key."""

from operator import attrgetter
from pathlib import Path

import pytest
import yaml

from lgsid_ray.config import load, override, to_yaml
from lgsid_ray.errors import ConfigError


def test_yaml_round_trip(tmp_path: Path) -> None:
    config = load(None, ["align.lambda=1.8", "seed=7", "tokenizer.sizes=[8, 4]"])
    file = tmp_path / "config.yaml"
    file.write_text(to_yaml(config), encoding="utf-8")
    assert load(str(file)) == config
    assert config.align.lambda_ == 1.8
    assert config.tokenizer.sizes == [8, 4]


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("align.lamda=1", "align.lamda"),
        ("nonsense=1", "nonsense"),
        ("align.lambda=high", "align.lambda"),
        ("align.steps=0", "align.steps"),
        ("align.lambda=-1", "align.lambda"),
        ("align.lambda=.inf", "align.lambda"),
        ("rank.learning_rate=.nan", "rank.learning_rate"),
        ("tokenizer.sizes=[]", "tokenizer"),
        ("catalogue.source.items=-1", "catalogue.source"),
        ("seed=-1", "seed"),
        ("tune.lambdas=[10, 0.1]", "tune: lambdas"),
    ],
)
def test_refusal_names_the_key(text: str, key: str) -> None:
    with pytest.raises(ConfigError, match=key.replace(".", r"\.")):
        load(None, [text])


@pytest.mark.parametrize(
    ("texts", "section", "key", "value"),
    [
        (["rank.trainer.workers=3"], "rank.trainer", "checkpoint_steps", 200),
        (["tokenizer={kind: geo_fused, features: {geo: 3}}"], "tokenizer.features", "brand", 0),
        (["tokenizer.kmeans.iterations=3"], "tokenizer.kmeans", "balanced", True),
        (["tokenizer={kind: res_kmeans, kmeans: {iterations: 3}}"], "tokenizer.kmeans", "balanced", False),
    ],
)
def test_what_is_not_said_of_a_subsection_stays_as_its_section_has_it(
    texts: list[str], section: str, key: str, value: object
) -> None:
    found = attrgetter(f"{section}.{key}")(load(None, texts))
    assert found == value


def test_what_has_no_weights_is_aligned_neither_by_default_nor_on_demand() -> None:
    assert load(None, ["tokenizer.embeddings=aligned"]).aligned
    assert load(None, ["align.enabled=true"]).aligned
    for asked in ("tokenizer.embeddings=aligned", "align.enabled"):
        text = asked if "=" in asked else f"{asked}=true"
        with pytest.raises(ConfigError, match=rf"{asked} needs a trainable encoder"):
            load(None, ["encoder.kind=random_projection", text])


@pytest.mark.parametrize(
    ("texts", "space", "aligned"),
    [
        ([], "fused", False),
        (["encoder.prompt.location=[]"], "origin", False),
        (["align.enabled=true"], "fused", True),
        (["tokenizer.embeddings=aligned"], "aligned", True),
        (["tokenizer.embeddings=origin"], "origin", False),
    ],
)
def test_sids_rest_on_what_needs_no_training_unless_asked(texts: list[str], space: str, aligned: bool) -> None:
    config = load(None, texts)
    assert (config.space, config.aligned) == (space, aligned)


@pytest.mark.parametrize(
    ("texts", "objective"),
    [([], "distil"), (["align.steps=5"], "distil"), (["align.lambda=1.8"], "gdpo"), (["align.relations=1"], "distil")],
)
def test_a_setting_that_only_preferences_have_asks_for_them(texts: list[str], objective: str) -> None:
    assert load(None, texts).align.objective == objective


@pytest.mark.parametrize("text", ["align.lambda", "=3", "seed.deeper=1"])
def test_malformed_override(text: str) -> None:
    tree = {"seed": 1}
    with pytest.raises(ConfigError, match="--set"):
        override(tree, text)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"version: 99\n", "newer"),
        (b"- a\n- b\n", "mapping"),
        (b"a: [\n", "YAML"),
        (b"\xff\xfe\x00", "YAML"),
    ],
)
def test_unusable_files(tmp_path: Path, content: bytes, message: str) -> None:
    file = tmp_path / "broken.yaml"
    file.write_bytes(content)
    with pytest.raises(ConfigError, match=message):
        load(str(file))


def test_missing_file_is_named() -> None:
    with pytest.raises(ConfigError, match=r"absent\.yaml: no such file"):
        load("absent.yaml")


def test_environment_variables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tree = {"catalogue": {"source": {"items": {"path": "${LGSID_TEST_ROOT}/items.csv"}}}}
    file = tmp_path / "config.yaml"
    file.write_text(yaml.safe_dump(tree), encoding="utf-8")
    with pytest.raises(ConfigError, match="LGSID_TEST_ROOT"):
        load(str(file))
    monkeypatch.setenv("LGSID_TEST_ROOT", "data")
    assert load(str(file)).model_dump()["catalogue"]["source"]["items"]["path"] == "data/items.csv"
    tree["catalogue"]["source"]["items"]["path"] = "${LGSID_TEST_ABSENT:-there}/items.csv"
    file.write_text(yaml.safe_dump(tree), encoding="utf-8")
    assert load(str(file)).model_dump()["catalogue"]["source"]["items"]["path"] == "there/items.csv"


def test_a_key_is_named_as_the_user_writes_it_and_the_nearest_known_one_offered() -> None:
    with pytest.raises(ConfigError) as refused:
        load(None, ["align.lamda=1", "align.lambda=high", "catalogue.source.items.pth=a.csv", "tokenizer.sizes=[4, a]"])
    lines = [line.strip().partition(": ") for line in str(refused.value).splitlines()[1:]]
    told = {path: text for path, _, text in lines}
    assert set(told) == {
        "align.lamda",
        "align.lambda",
        "catalogue.source.items.path",
        "catalogue.source.items.pth",
        "tokenizer.sizes.1",
    }
    assert "did you mean lambda?" in told["align.lamda"]
    assert "'auto'" in told["align.lambda"]


@pytest.mark.parametrize(
    ("items", "told"),
    [
        ("{path: a.csv, columns: {itemid: id}}", r"items\.columns: itemid is no column of ours; they are item_id"),
        ("{path: a.csv, constants: {user_id: 1}}", r"items\.constants: user_id is no column"),
        ("{path: a.csv, columns: {brand: b}, constants: {brand: c}}", "brand stands both in columns and in constants"),
    ],
)
def test_mappings_that_would_have_no_effect_are_refused(items: str, told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        load(None, [f"catalogue.source.items={items}"])


@pytest.mark.parametrize(
    ("constant", "read"), [("province: NO", "False"), ("city: ON", "True"), ("province: 06037", "3103")]
)
def test_what_yaml_makes_of_a_text_is_refused(constant: str, read: str) -> None:
    with pytest.raises(ConfigError, match=rf"YAML reads it as {read}, not as text; quote it"):
        load(None, [f"catalogue.source={{items: {{path: a.csv, constants: {{{constant}}}}}}}"])
    name = constant.partition(":")[0]
    load(None, [f"catalogue.source={{items: {{path: a.csv, constants: {{{name}: '06037', price: 5}}}}}}"])
