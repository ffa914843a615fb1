"""How much of an embedding's neighbourhood SIDs preserve: are those most like an item behind the prefixes it has?"""

from functools import partial
from typing import Any

import numpy as np

from lgsid_ray.arrays import Int64
from lgsid_ray.artifacts.keys import prefix_numbers
from lgsid_ray.evaluate.retrieval import Answers, answer, by_cosine
from lgsid_ray.evaluate.space import Corpus

NEAREST = 10


def sid_neighbours(tokens: Int64, corpus: Corpus, queries: Int64) -> list[dict[str, Any]]:
    """Per space and prefix length: `recall`, the share of an item's k nearest neighbours that have its prefix.

    Beside it `chance`, the share of all other items that have it, which is what codes without meaning would recall.
    k is NEAREST, or as many as there are others; no rows where there are none.

    Args:
        tokens: (n, levels). queries: (q,) items that are looked at, ascending.
    """
    groups, rows = prefix_numbers(tokens).T, []
    k = min(NEAREST, len(tokens) - 1)
    if not k:
        return []
    makers = {name: partial(by_cosine, space=name, k=k) for name in corpus.judged}
    asked: Answers = corpus.fold(answer, corpus.of(queries), makers, dict.fromkeys(makers, k))
    for name, found in asked.found.items():
        for length, group in enumerate(groups, start=1):
            own = group[queries]
            recall = float((group[found.item[0]] == own[:, None]).mean())
            chance = float((np.bincount(group)[own] - 1).mean() / (len(tokens) - 1))
            rows.append({"space": name, "prefix": length, "k": k, "recall": recall, "chance": chance})
    return rows
