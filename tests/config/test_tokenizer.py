"""The section `tokenizer`: a union by kind, whose refusals name the key as the user wrote it."""

import pytest

from lgsid_ray.config import load, to_yaml
from lgsid_ray.config.tokenizer import HgitConfig, ResKMeansConfig
from lgsid_ray.errors import ConfigError


def test_without_a_kind_it_is_hgit() -> None:
    assert load(None).tokenizer == HgitConfig()
    assert load(None, ["tokenizer.sizes=[8, 4]"]).tokenizer == HgitConfig(sizes=[8, 4])
    assert load(None, ["tokenizer.kind=res_kmeans"]).tokenizer == ResKMeansConfig()


@pytest.mark.parametrize("kind", ["hgit", "res_kmeans", "rq_vae", "geo_fused", "unified_sid", "random"])
def test_what_is_printed_reads_back(kind: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    config = load(None, [f"tokenizer.kind={kind}", "tokenizer.kmeans.iterations=3"])
    file = tmp_path_factory.mktemp("config") / "config.yaml"
    file.write_text(to_yaml(config), encoding="utf-8")
    assert load(str(file)) == config


@pytest.mark.parametrize(
    ("items", "training", "bits", "sizes"),
    [
        (3_000, 2_400, None, [64, 32, 32]),
        (8_004, 6_400, None, [64, 64, 32]),
        (2_300_000, 2_000_000, None, [512, 512, 256]),
        (3_000, 2_400, 12, [16, 16, 16]),
        (30, 24, None, [4, 4, 4]),  # codebooks of a few rows each would be those rows
        (3, 2, None, [1, 1, 1]),
    ],
)
def test_sizes_are_proposed_from_the_number_of_items(
    items: int, training: int, bits: int | None, sizes: list[int]
) -> None:
    assert HgitConfig(bits=bits).sized(items, training).codes == sizes
    assert HgitConfig(sizes=[7, 5]).sized(items, training).codes == [7, 5]


@pytest.mark.parametrize(
    ("overrides", "told"),
    [
        (["tokenizer.size=[8]"], r"tokenizer\.size: unknown key; did you mean sizes\?"),
        (["tokenizer.kind=res_kmeans", "tokenizer.regulariser=1"], r"tokenizer\.regulariser: unknown key; `lgsid"),
        (["tokenizer.kmeans.actor=1"], r"tokenizer\.kmeans\.actor: unknown key; did you mean actors\?"),
        (["tokenizer.features.geohash_precision=13"], r"tokenizer\.features\.geohash_precision: .*12"),
        (["tokenizer.sizes=[4, a]"], r"tokenizer\.sizes\.1: "),
        (["tokenizer.sizes=[4294967296, 4294967296]"], "tokenizer: sizes .* span 2\\^63"),
        (["tokenizer.kind=rq"], "tokenizer: .*'hgit', 'res_kmeans', 'rq_vae', 'geo_fused', 'unified_sid', 'random'"),
        (["tokenizer.name=A/b"], r"tokenizer\.name: "),
        (["tokenizer.name=v1.2"], r"tokenizer\.name: "),  # a dot parts the keys of a measure
        (["tokenizer.name=origin"], "rankers without SIDs go by it"),
        (["tokenizer=hgit"], "tokenizer: "),
        (["tokenizer.sizes=many"], r"tokenizer\.sizes: .*'auto'"),
        (["tokenizer.sizes=[4, 4]", "tokenizer.bits=9"], "bits are for sizes 'auto'"),
        (["tokenizer.kind=unified_sid", "tokenizer.cosine_levels=4"], "cosine_levels 4: there are 3 levels"),
        (["tokenizer.kind=rq_vae", "tokenizer.kmeans.balanced=true"], "kmeans.balanced: kind 'rq_vae' has no clusters"),
        (["tokenizer.kind=random", "tokenizer.kmeans.balanced=true"], "kmeans.balanced: kind 'random' has no clusters"),
        (["tokenizer.sizes=[64]", "tokenizer.last_level=shared"], "needs two sizes or more"),
    ],
)
def test_refusals_name_the_key(overrides: list[str], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        load(None, overrides)


def test_a_name_tells_two_of_a_kind_apart_and_is_no_part_of_what_they_are() -> None:
    plain, named = HgitConfig(), HgitConfig(name="hgit-wide")
    assert (plain.label, named.label) == ("hgit", "hgit-wide")
    assert plain.identity() == named.identity()
    assert plain.identity() != HgitConfig(steps=1).identity()
