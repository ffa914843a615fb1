"""A first configuration from files: who made them, which column is which, and every assumption said beside it."""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import pandas as pd

from lgsid_ray.catalog.check import forms_of, read_as
from lgsid_ray.catalog.sniff import Head, is_number, quoted
from lgsid_ray.config.catalogue import ITEM_REQUIRED, LOG_REQUIRED
from lgsid_ray.errors import InputError


@dataclass(frozen=True)
class Maker:
    """Files whose columns are known by those that tell them from others.

    Attributes:
        name: of the maker, and of the table. columns: ours to theirs; those that a file lacks are passed over.
        telling: columns that all must be there. header: the names of a file without any, by their order.
        unquoted: whether quotes are part of the texts.
    """

    name: str
    columns: Mapping[str, str]
    telling: tuple[str, ...]
    header: tuple[str, ...] = ()
    unquoted: bool = False


_PLACE = {"lat": "latitude", "lon": "longitude"}
MAKERS = (
    Maker("Foursquare OS Places", {"item_id": "fsq_place_id", "name": "name", **_PLACE, "category_1":
          "fsq_category_labels[0]", "city": "locality", "province": "region"}, ("fsq_place_id", "latitude")),
    Maker("Overture places", {"item_id": "id", "name": "names.primary", "lat": "bbox.ymin", "lon": "bbox.xmin",
          "category_1": "categories.primary", "brand": "brand.names.primary", "city": "addresses[0].locality",
          "province": "addresses[0].region"}, ("names.primary", "categories.primary", "bbox.xmin")),
    Maker("Yelp businesses", {"item_id": "business_id", "name": "name", **_PLACE, "category_1": "categories", "city":
          "city", "province": "state"}, ("business_id", "latitude", "categories")),
    Maker("Yelp reviews", {"user_id": "user_id", "item_id": "business_id", "timestamp": "date", "label": "stars"},
          ("review_id", "user_id", "business_id")),
    Maker("Google Local places", {"item_id": "gmap_id", "name": "name", **_PLACE, "category_1": "category[0]",
          "category_2": "category[1]", "price": "price"}, ("gmap_id", "latitude", "category[0]")),
    Maker("Google Local reviews", {"user_id": "user_id", "item_id": "gmap_id", "timestamp": "time", "label": "rating"},
          ("user_id", "gmap_id", "time")),
    Maker("OpenStreetMap, Overpass", {"item_id": "id", "name": "tags.name", "lat": "lat", "lon": "lon", "brand":
          "tags.brand", "category_1": "tags.amenity", "category_2": "tags.shop", "city": "tags.addr:city"},
          ("tags.name", "lat", "id")),
    Maker("OpenStreetMap, GeoJSON", {"item_id": "@id", "name": "name", "lat": "lat", "lon": "lon", "brand": "brand",
          "category_1": "amenity", "category_2": "shop", "city": "addr:city"}, ("@id", "name")),
    Maker("OpenSiteRec, New York", {"item_id": "ID", "name": "Name", "lat": "Latitude", "lon": "Longitude", "brand":
          "Brand", "category_1": "cate_1", "category_2": "cate_2", "city": "District", "district": "Region"},
          ("cate_1", "Region", "District")),
    Maker("OpenSiteRec", {"item_id": "ID", "name": "Name", "lat": "Latitude", "lon": "Longitude", "brand": "Brand",
          "category_1": "cate_1", "category_2": "cate_2", "district": "BA"}, ("cate_1", "Region", "BA")),
    Maker("MovieLens films", {"item_id": "movieId", "name": "title", "category_1": "genres"}, ("movieId", "genres")),
    Maker("GeoNames", {"item_id": "geonameid", "name": "name", **_PLACE, "category_1": "feature class", "category_2":
          "feature code"}, (), ("geonameid", "name", "asciiname", "alternatenames", "latitude", "longitude",
          "feature class", "feature code", "country code", "cc2", "admin1 code", "admin2 code", "admin3 code",
          "admin4 code", "population", "elevation", "dem", "timezone", "modification date"), unquoted=True),
    Maker("Foursquare check-ins (Yang)", {"user_id": "user", "item_id": "venue", "timestamp": "utc time"}, (),
          ("user", "venue", "category id", "category", "latitude", "longitude", "offset", "utc time")),
)  # fmt: skip

SYNONYMS = {
    "item_id": ("item_id", "itemid", "venue_id", "venueid", "vid", "place_id", "placeid", "poi_id", "poiid",
                "business_id", "shop_id", "store_id", "restaurant_id", "route_id", "movieid", "listing_id", "asin",
                "venue", "item", "poi", "id"),
    "name": ("name", "title", "item_name", "venue_name", "place_name", "poi_name", "shop_name", "restaurant_name"),
    "lat": ("lat", "latitude", "geo_lat", "y", "ymin", "venue_lat"),
    "lon": ("lon", "lng", "long", "longitude", "geo_lon", "geo_lng", "x", "xmin", "venue_lon"),
    "brand": ("brand", "chain", "operator"),
    "category_1": ("category_1", "category", "categories", "cate_1", "type", "main_category", "genres", "cuisine",
                   "class"),
    "category_2": ("category_2", "subcategory", "sub_category", "cate_2", "subtype", "grade"),
    "province": ("province", "state", "admin1", "region"),
    "city": ("city", "town", "locality", "municipality"),
    "district": ("district", "neighbourhood", "neighborhood", "suburb", "borough", "sector", "county"),
    "price": ("price", "avg_price", "average_price", "cost"),
    "user_id": ("user_id", "userid", "uid", "user", "users", "member_id", "customer_id", "reviewer_id", "visitor"),
    "timestamp": ("timestamp", "time", "datetime", "date", "created_at", "checkin_time", "event_time", "unixreviewtime",
                  "utc_time"),
    "label": ("label", "rating", "ratings", "stars", "score", "click", "clicked", "overall"),
}  # fmt: skip
"""Ours to what makers call it, the likeliest first; compared without case and punctuation."""
_LOG = ("user_id", "item_id", "timestamp", "label")
_ITEMS = tuple(name for name in SYNONYMS if name not in ("user_id", "timestamp", "label"))
_ISO = re.compile(r"\d{4}-\d\d-\d\d([T ].*)?")


@dataclass
class Found:
    """A file that was recognised: what it is, its head, and ours to theirs."""

    table: str
    maker: str
    head: Head
    columns: dict[str, str]


def recognise(head: Head) -> Found | None:
    """Which table a file is, and which of its columns is which of ours; None: it cannot be told."""
    for maker in MAKERS:
        known = len(maker.header) == len(head.columns) if maker.header else set(maker.telling) <= set(head.columns)
        if known and bool(maker.header) != head.named:
            if maker.header:
                _name(head, maker.header)
            if maker.unquoted:
                head.set("quote", "none", f"{maker.name} encloses nothing")
            columns = {ours: theirs for ours, theirs in maker.columns.items() if head.columns.get(theirs)}
            return Found("interactions" if "user_id" in columns else "items", maker.name, head, columns)
    return _generic(head)


def configuration(found: Iterable[Found]) -> str:
    """The YAML of the tables, with what was assumed beside every line.

    Raises:
        InputError: there is no table of items, or two of one kind.
    """
    tables: dict[str, Found] = {}
    for one in found:
        if one.table in tables:
            raise InputError(
                f"{tables[one.table].head.path} and {one.head.path} both look like {one.table}; give one of them, or a "
                "quoted pattern that names all parts of one table"
            )
        tables[one.table] = one
    if "items" not in tables:
        given = "; ".join(f"{one.head.path} is a log with {list(one.head.columns)}" for one in tables.values())
        raise InputError(f"there is no table of items, with a key and a name for each: {given}; give that file too")
    lines = ["# Written by lgsid init. Look it over, then: lgsid check --config THIS-FILE", "catalogue:", "  source:"]
    for table in ("items", "interactions"):
        if table in tables:
            lines += [f"    {line}" for line in _section(tables[table])]
    if "interactions" in tables:
        lines += [f"    # {_joined(tables['items'], tables['interactions'])}"]
    if not {"lat", "lon"} <= set(tables["items"].columns):
        lines += ["    # No coordinates were found: nothing will be aligned with geography."]
    return "\n".join(lines) + "\n"


def _section(found: Found) -> Iterator[str]:
    head = found.head
    yield f"# {found.maker}: {len(head.columns)} columns"
    yield f"{found.table}:"
    yield f"  path: {quoted(head.path)}"
    for option, value in {**head.options, **_of_values(found)}.items():
        yield f"  {option}: {quoted(value)}" + (f"  # {head.why[option]}" if option in head.why else "")
    yield "  columns:"
    for ours, theirs in found.columns.items():
        example = next(iter(head.columns[theirs]), "")
        if ours == "price" and not all(is_number(value) for value in head.columns[theirs]):
            odd = next(value for value in head.columns[theirs] if not is_number(value))
            yield f"    price: null  # {theirs} is no number: {quoted(str(odd)[:40])}"
        else:
            yield f"    {ours}: {quoted(theirs)}  # for example {quoted(str(example)[:60])}"
    yield from (f"  # {line}" for line in _undecided(found))
    unused = [name for name in head.columns if name not in found.columns.values() and not name.endswith("[*]")]
    if unused:
        yield f"  # not used: {', '.join(unused[:20])}{' …' if len(unused) > 20 else ''}"


def _of_values(found: Found) -> dict[str, Any]:
    """Options that the values of the columns ask for, and nothing that they leave open."""
    options: dict[str, Any] = {}
    values = found.head.columns
    places = [str(value) for name in ("lat", "lon") for value in values.get(found.columns.get(name, ""), ())]
    if places and all(re.fullmatch(r"\s*[+-]?\d+,\d+\s*", value) for value in places):
        options["decimal"] = ","
        found.head.why["decimal"] = f"as in {places[0]}"
    forms = _forms(found)
    if len(forms) == 1:
        options["time_format"] = forms[0]
        found.head.why["time_format"] = "the only known form that all the first times have"
    return options


def _undecided(found: Found) -> Iterator[str]:
    forms, times = _forms(found), _times(found)
    if len(forms) > 1:
        yield "the times can be read in several ways; choose one, no time is read until then:"
        yield from (f"time_format: {quoted(form)}  # {times[0]} is {read_as(times[0], form)}" for form in forms)
    elif not forms and times:
        yield f"times such as {quoted(times[0])} are in no known form: set time_format, as in Python's strptime"


def _times(found: Found) -> list[str]:
    """Times that are neither numbers nor ISO 8601: some form must be named."""
    values = [str(value) for value in found.head.columns.get(found.columns.get("timestamp", ""), ())]
    return [value for value in values if not is_number(value) and not _ISO.fullmatch(value.strip())]


def _forms(found: Found) -> list[str]:
    times = _times(found)
    return forms_of(times) if times else []


def _joined(items: Found, log: Found) -> str:
    keys = {str(value) for value in items.head.columns[items.columns["item_id"]]}
    theirs = {str(value) for value in log.head.columns[log.columns["item_id"]]}
    return (
        f"Of {len(theirs)} item ids in the first rows of the log, {len(theirs & keys)} are among the first of the "
        "items: lgsid check looks at all."
    )


def _generic(head: Head) -> Found | None:
    """By names, or, where a file has none, by what the columns hold."""
    if not head.named:
        return _by_content(head)
    columns = {ours: theirs for ours in SYNONYMS if (theirs := _like(ours, head.columns)) is not None}
    if set(LOG_REQUIRED) <= set(columns):
        return Found("interactions", "a log, by the names of its columns", head, _only(columns, _LOG))
    if set(ITEM_REQUIRED) <= set(columns):
        columns = _only(columns, _ITEMS)
        for name, bound in (("lat", 90.0), ("lon", 180.0)):
            if name in columns and not _within(head.columns[columns[name]], bound):
                columns = {ours: theirs for ours, theirs in columns.items() if ours not in ("lat", "lon")}
        return Found("items", "items, by the names of its columns", head, columns)
    return None


def _by_content(head: Head) -> Found | None:
    kinds = {name: _kind(values) for name, values in head.columns.items()}
    order = list(kinds)
    pairs = [pair for pair in pairwise(order) if [kinds[name] for name in pair] == ["degrees"] * 2]
    times = [name for name, kind in kinds.items() if kind == "time"]
    rest = [name for name in order if not any(name in pair for pair in pairs) and name not in times]
    columns: dict[str, str] = dict(zip(("lat", "lon"), pairs[0], strict=True)) if pairs else {}
    if times and len(rest) >= 2:
        # A check-in: who, when, where, and the venue at the end.
        names = {rest[0]: "user", times[0]: "time", rest[-1]: "venue"}
        columns = {"user_id": "user", "item_id": "venue", "timestamp": "time"}
        _name(head, [names.get(name, name) for name in order])
        return Found("interactions", "check-ins without a header, by what the columns hold", head, columns)
    texts = [name for name in rest if kinds[name] == "text"]
    if rest and texts and rest[0] != texts[0] and len(set(head.columns[rest[0]])) == len(head.columns[rest[0]]):
        names = {rest[0]: "id", texts[0]: "name"} | {theirs: ours for ours, theirs in columns.items()}
        _name(head, [names.get(name, name) for name in order])
        mapped = {"item_id": "id", "name": "name"} | {ours: ours for ours in columns}
        return Found("items", "items without a header, by what the columns hold", head, mapped)
    return None


def _name(head: Head, names: Iterable[str]) -> None:
    head.columns = dict(zip(names, head.columns.values(), strict=True))
    head.set("header", list(head.columns), "the file names none")


def _kind(values: list[Any]) -> str:
    some = [str(value) for value in values[:500]]
    if all(_ISO.fullmatch(value) for value in some):
        return "time"
    if all(is_number(value) for value in some):
        degrees = _within(some, 180) and sum("." in value for value in some) > 0.8 * len(some)
        return "degrees" if degrees else "number"
    return "text"


def _within(values: list[Any], bound: float) -> bool:
    numbers = pd.to_numeric(pd.Series([str(value).replace(",", ".", 1) for value in values]), errors="coerce").dropna()
    return bool(len(numbers)) and bool((numbers.abs() <= bound).mean() > 0.95)


def _like(ours: str, columns: Iterable[str]) -> str | None:
    plain = {_plain(name): name for name in reversed(list(columns))}
    return next((plain[_plain(name)] for name in SYNONYMS[ours] if _plain(name) in plain), None)


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


def _only(columns: Mapping[str, str], names: Iterable[str]) -> dict[str, str]:
    return {ours: columns[ours] for ours in names if ours in columns}
