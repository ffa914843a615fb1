"""The tables that pass between rooms, one class each: nobody reads another room's table by hand."""

from lgsid_ray.artifacts.embeddings import Embeddings
from lgsid_ray.artifacts.frontier import Frontier
from lgsid_ray.artifacts.interactions import Interactions
from lgsid_ray.artifacts.items import Items
from lgsid_ray.artifacts.lists import Lists
from lgsid_ray.artifacts.locations import ItemLocations, Locations, LocationTexts
from lgsid_ray.artifacts.negatives import Negatives
from lgsid_ray.artifacts.quarantine import Quarantine
from lgsid_ray.artifacts.recommendations import Recommendations
from lgsid_ray.artifacts.scores import Scores
from lgsid_ray.artifacts.sids import Inverse, Sids
from lgsid_ray.artifacts.table import Table, apart
from lgsid_ray.artifacts.trie import Trie
from lgsid_ray.artifacts.triples import Triples

TABLES: tuple[type[Table], ...] = (
    Items,
    Interactions,
    Quarantine,
    Negatives,
    Lists,
    Triples,
    Embeddings,
    LocationTexts,
    ItemLocations,
    Locations,
    Sids,
    Inverse,
    Frontier,
    Recommendations,
    Scores,
)
"""Every table, in the order in which a run writes them."""

__all__ = [
    "TABLES",
    "Embeddings",
    "Frontier",
    "Interactions",
    "Inverse",
    "ItemLocations",
    "Items",
    "Lists",
    "LocationTexts",
    "Locations",
    "Negatives",
    "Quarantine",
    "Recommendations",
    "Scores",
    "Sids",
    "Table",
    "Trie",
    "Triples",
    "apart",
]
