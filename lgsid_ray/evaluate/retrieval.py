"""Exact retrieval by cosine, self excluded, and what the retrieved items are worth (P/C/T@K, Similarity@K)."""

from collections.abc import Iterator, Sequence

import faiss
import numpy as np
import torch
from torch import Tensor

from lgsid_ray.arrays import Float32, Float64, Int64
from lgsid_ray.artifacts.labels import LEVELS
from lgsid_ray.evaluate.space import Space

BLOCK = 1 << 24
"""Scores held at once: memory stays bounded whatever the size of the catalogue."""
GATHER = 1 << 24
"""Floats gathered at once when retrieved items are compared with their query."""
NEAR = 2e-6
"""Four times what two ways to sum a product of two 384-dimensional unit vectors in float32 were seen to differ by."""


def score_blocks(queries: Float32, corpus: Float32, own: Int64) -> Iterator[tuple[slice, Tensor]]:
    """Blocks of query rows with their scores against the whole corpus, -inf at the query itself.

    Args:
        queries: (q, d).
        corpus: (n, d).
        own: (q,) each query's row in the corpus.
    """
    step = max(1, BLOCK // len(corpus))
    columns = torch.from_numpy(corpus).T
    for begin in range(0, len(queries), step):
        rows = slice(begin, min(begin + step, len(queries)))
        scores = torch.from_numpy(queries[rows]) @ columns
        scores[torch.arange(len(scores)), torch.from_numpy(own[rows])] = -torch.inf
        yield rows, scores


def top_k(scores: Tensor, k: int) -> tuple[Int64, Float32]:
    """Columns and values of the k largest scores of each row, best first; equal scores: the lower column first."""
    best, where = torch.topk(scores, min(k + 1, scores.shape[1]))
    values, index = best[:, :k], where[:, :k]
    last = values[:, -1:]
    # topk breaks a tie for the last places as it likes; rows in which the next value is as large need a second look.
    tied = (best[:, k:] == last).any(1).nonzero().flatten()
    if len(tied):
        equal, above = scores[tied] == last[tied], values[tied] > last[tied]
        first = equal & (equal.cumsum(1, dtype=torch.int32) <= k - above.sum(1, keepdim=True))
        # topk's values descend, so that those above the last stand in front of it.
        chosen = index[tied]
        chosen[~above] = first.nonzero()[:, 1]
        index[tied] = chosen
    columns, sizes = index.numpy(), values.numpy()
    order = np.lexsort((columns, -sizes), axis=1)
    return np.take_along_axis(columns, order, axis=1), np.take_along_axis(sizes, order, axis=1)


def search(vectors: Float32, queries: Int64, k: int) -> Int64:
    """(q, k) nearest items by inner product, self excluded, best first, ties to the lower index.

    faiss searches exactly, but leaves the order of equal scores open, and rounds in its own way: rows in which two
    scores at or next to the first k are closer than NEAR are searched by `search_plainly`, so that both always agree.

    Args:
        vectors: (n, d), L2-normalised; n > k.
        queries: (q,) rows of `vectors`.
    """
    scores, found = faiss.knn(vectors[queries], vectors, min(k + 2, len(vectors)), metric=faiss.METRIC_INNER_PRODUCT)
    # A stable sort on "is it itself" takes the query out wherever it stands; where it is not, the last one goes.
    others = np.argsort(found == queries[:, None], axis=1, kind="stable")[:, :-1]
    scores, found = np.take_along_axis(scores, others, axis=1), np.take_along_axis(found, others, axis=1)[:, :k]
    close = np.flatnonzero((scores[:, :-1] - scores[:, 1:] < NEAR).any(axis=1))
    found[close] = search_plainly(vectors, queries[close], k)
    return found


def search_plainly(vectors: Float32, queries: Int64, k: int) -> Int64:
    """`search` by all scores of a query."""
    found = np.empty((len(queries), k), dtype=np.int64)
    for rows, scores in score_blocks(vectors[queries], vectors, queries):
        found[rows] = top_k(scores, k)[0]
    return found


def cosines(vectors: Float32, queries: Int64, found: Int64) -> Float64:
    """(q, k) inner products of each query with what was found for it."""
    result = np.empty(found.shape)
    step = max(1, GATHER // (found.shape[1] * vectors.shape[1]))
    for begin in range(0, len(queries), step):
        rows = slice(begin, begin + step)
        result[rows] = np.einsum("qd,qkd->qk", vectors[queries[rows]], vectors[found[rows]])
    return result


def judge(space: Space, queries: Int64, found: Int64, ks: Sequence[int]) -> list[dict[str, Float64]]:
    """Per K, the value of every query, (q,): `similarity`, `content_similarity`, `province`, `city`, `district`.

    Similarity@K is measured in the frozen reference space wherever the items were retrieved. The three shares are
    P@K, C@K and T@K; NaN where the query's own label is unknown. `found` holds at least max(ks) columns.
    """
    hits = {"similarity": cosines(space.reference, queries, found)}
    if space.content is not None:
        hits["content_similarity"] = cosines(space.content, queries, found)
    for level, name in enumerate(LEVELS):
        own = space.labels[queries, level][:, None]
        hits[name] = np.where(own < 0, np.nan, space.labels[found, level] == own)
    return [{name: values[:, :k].mean(axis=1) for name, values in hits.items()} for k in ks]


def mean(values: Float64) -> float | None:
    """Mean of the known values; None where there is none."""
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else None
