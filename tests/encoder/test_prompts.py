"""Prompts of known items: which clauses stand, how numbers read, and what a mismatched prompt keeps (Eq 1)."""

import pyarrow as pa
import pygeohash
import pytest

from lgsid_ray.artifacts import Items
from lgsid_ray.config.encoder import EncoderConfig, PromptConfig
from lgsid_ray.encoder.model import identity
from lgsid_ray.encoder.prompts import (
    combine,
    content_only_prompts,
    content_prompts,
    full_prompts,
    location_prompts,
    query_prompts,
)
from lgsid_ray.errors import ConfigError

WHOLE = {
    "name": "Golden Dragon",
    "brand": "Dragon & Co",
    "category_1": "restaurant",
    "category_2": "noodles",
    "price": 12.5,
    "province": "New York",
    "city": "New York City",
    "district": "Soho",
}
BARE = {"name": "Corner Laundry", "city": "Chicago"}


def items(*rows: dict[str, object]) -> pa.Table:
    """A table of items; fields that a row lacks are null."""
    return pa.table({f.name: pa.array([row.get(f.name) for row in rows], f.type) for f in Items.schema})


def test_prompts_of_known_items() -> None:
    table, prompt = items(WHOLE, BARE), PromptConfig()
    content = ["Golden Dragon, brand Dragon & Co, restaurant, noodles, price 12.5", "Corner Laundry"]
    location = ["district Soho, city New York City, province New York", "city Chicago"]
    assert content_prompts(table, prompt) == content
    assert location_prompts(table, prompt) == location
    assert full_prompts(table, prompt) == [f"{content[0]}, {location[0]}", f"{content[1]}, {location[1]}"]


@pytest.mark.parametrize(
    ("field", "nothing"), [*((field, None) for field in WHOLE), *((field, "") for field in WHOLE if field != "price")]
)
def test_a_missing_field_drops_its_clause_and_no_other(field: str, nothing: str | None) -> None:
    prompt = PromptConfig()
    clauses = [c.format(**WHOLE) for c in [*prompt.content, *prompt.location] if f"{{{field}}}" not in c]
    assert full_prompts(items({**WHOLE, field: nothing}), prompt) == [", ".join(clauses)]


def test_a_clause_of_two_fields_needs_both() -> None:
    prompt = PromptConfig(content=["{name} ({brand})", "{category_1}"], location=["in {city}, {province}"])
    rows = [WHOLE, {**WHOLE, "brand": None}, {**WHOLE, "province": None}]
    assert full_prompts(items(*rows), prompt) == [
        "Golden Dragon (Dragon & Co), restaurant, in New York City, New York",
        "restaurant, in New York City, New York",
        "Golden Dragon (Dragon & Co), restaurant",
    ]


def test_the_separator_stands_between_clauses_and_between_halves_only() -> None:
    prompt = PromptConfig(content=["{name}", "{brand}"], location=["{city}", "{province}"], separator=" | ")
    rows = [WHOLE, BARE, {"name": "Kiosk"}, {"city": "Chicago"}, {}]
    assert full_prompts(items(*rows), prompt) == [
        "Golden Dragon | Dragon & Co | New York City | New York",
        "Corner Laundry | Chicago",
        "Kiosk",
        "Chicago",
        "",
    ]


@pytest.mark.parametrize(
    ("price", "text"),
    [
        (0.0, "0"),
        (12.0, "12"),
        (12.5, "12.5"),
        (9.99, "9.99"),
        (0.1 + 0.2, "0.3"),
        (12345.67, "12345.67"),
        (1500000.0, "1500000"),  # a price in yen or rupiah
        (-3.0, "-3"),
    ],
)
def test_a_price_reads_as_it_was_given(price: float, text: str) -> None:
    assert content_prompts(items({"price": price}), PromptConfig()) == [f"price {text}"]


def test_values_are_never_read_as_templates() -> None:
    odd = {"name": "{brand} {nothing}", "brand": "100 % {0}", "city": "}{"}
    assert full_prompts(items(odd), PromptConfig()) == ["{brand} {nothing}, brand 100 % {0}, city }{"]


POINTS = [(57.64911, 10.40744), (-33.8688, 151.2093), (0.0, -180.0), (90.0, 0.0)]


@pytest.mark.parametrize("precision", [1, 5, 12])
def test_a_geohash_is_that_of_the_plain_point(precision: int) -> None:
    prompt = PromptConfig(location=["cell {geohash}", "{city}"], geohash_precision=precision)
    rows = [{"lat": lat, "lon": lon, "city": "x"} for lat, lon in POINTS]
    expected = [f"cell {pygeohash.encode(lat, lon, precision)}, x" for lat, lon in POINTS]
    assert location_prompts(items(*rows), prompt) == expected
    assert expected[0] == f"cell {'u4pruydqqvj8'[:precision]}, x"


def test_no_geohash_without_coordinates_and_only_where_it_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    prompt = PromptConfig(location=["cell {geohash}", "{city}"])
    assert location_prompts(items(BARE, {"name": "Kiosk"}), prompt) == ["Chicago", ""]
    monkeypatch.delattr(pygeohash, "encode")
    assert location_prompts(items({**BARE, "lat": 1.0, "lon": 2.0}), PromptConfig()) == ["city Chicago"]


def test_a_catalogue_without_coordinates_and_labels_has_content_alone() -> None:
    table = items({"name": "Dune", "category_1": "novel"}, {"name": "Emma"})
    assert full_prompts(table, PromptConfig()) == content_prompts(table, PromptConfig()) == ["Dune, novel", "Emma"]
    assert location_prompts(table, PromptConfig()) == ["", ""]


def test_the_geohash_belongs_to_the_encoders_identity() -> None:
    one, other = (
        identity(EncoderConfig(kind="random_projection", prompt=PromptConfig(geohash_precision=p))) for p in (5, 6)
    )
    assert one != other


def test_literal_clauses_empty_templates_and_no_items() -> None:
    prompt = PromptConfig(content=["a place", "{{{name}}}"], location=[])
    assert full_prompts(items(BARE, BARE), prompt) == ["a place, {Corner Laundry}"] * 2
    assert full_prompts(items(BARE), PromptConfig(content=[], location=[])) == [""]
    assert full_prompts(items(), PromptConfig()) == []


@pytest.mark.parametrize("half", ["content", "location"])
@pytest.mark.parametrize(
    ("clause", "named"),
    [
        ("{nmae}", "'nmae'.*item_id"),
        ("{name} by {owner}", "'owner'"),
        ("{name[0]}", r"'name\[0\]'"),
        ("{name.upper}", r"'name\.upper'"),
        ("{}", "''"),
        ("{name", "no template"),
        ("{name!x}", "no template"),
        ("{price:.2f}", "no template"),
    ],
)
def test_a_bad_clause_is_refused_by_name(half: str, clause: str, named: str) -> None:
    """Before any row is read: also of an empty table."""
    for table in (items(WHOLE), items()):
        with pytest.raises(ConfigError, match=named) as caught:
            full_prompts(table, PromptConfig.model_validate({half: ["{name}", clause]}))
        assert repr(clause) in str(caught.value)


def test_a_mismatched_prompt_keeps_the_anchors_content() -> None:
    """P_i^j = [P_content(i), P_location(j)]: what item j with i's content would say."""
    prompt = PromptConfig()
    rows = [WHOLE, BARE, {"name": "Blue Bottle", "price": 4.0, "province": "California", "district": "Mission"}]
    content_fields = ("name", "brand", "category_1", "category_2", "price")
    table = items(*rows)
    contents, locations = content_prompts(table, prompt), location_prompts(table, prompt)
    for anchor in range(3):
        mixed = combine([contents[anchor]] * 3, locations, prompt)
        hybrids = [{**other, **{f: rows[anchor].get(f) for f in content_fields}} for other in rows]
        assert mixed == full_prompts(items(*hybrids), prompt)
        assert mixed[anchor] == full_prompts(table, prompt)[anchor]
        assert all(text.startswith(contents[anchor]) for text in mixed)


def test_halves_of_unequal_length_are_refused() -> None:
    with pytest.raises(ValueError):
        combine(["a", "b"], ["c"], PromptConfig())


def test_what_a_model_was_trained_to_see_first_stands_before_every_prompt() -> None:
    e5, plain, table = PromptConfig(document_prefix="passage: ", query_prefix="query: "), PromptConfig(), items(BARE)
    assert full_prompts(table, e5) == ["passage: Corner Laundry, city Chicago"]
    assert content_only_prompts(table, e5) == ["passage: Corner Laundry"]
    assert combine(["a", ""], ["", "b"], e5) == ["passage: a", "passage: b"]
    assert query_prompts(["sushi near Soho"], e5) == ["query: sushi near Soho"]
    assert query_prompts(["sushi"], plain) == ["sushi"]
    assert identity(EncoderConfig(prompt=e5)) != identity(EncoderConfig(prompt=plain))
