"""Embeddings to SIDs by a tokenizer, against faiss: a chain of its flat indexes, and its ResidualQuantizer at beam 1.

All have the same codebooks, those that the ResidualQuantizer has learnt, in one process with the same number of
threads; each rival takes turns with ours, and who goes first changes every round. Prints the median paired ratio of
the times, and the share of the items to which both give the same SID.

    python benchmarks/encode.py --rows 100000 --dimension 384 --levels 3
"""

import argparse
import time
from collections.abc import Callable

import faiss
import numpy as np
import torch
from kmeans import embeddings
from threadpoolctl import threadpool_limits

from lgsid_ray.tokenizer.levels import on_embeddings
from lgsid_ray.tokenizer.tokenizer import Tokenizer

BITS = 8
"""Of a level: a byte, so that nothing has to be unpacked of what faiss gives."""
Encode = Callable[[np.ndarray], np.ndarray]


def residual_quantizer(rows: np.ndarray, levels: int) -> faiss.ResidualQuantizer:
    """Fitted to the rows, one code at a time."""
    quantizer = faiss.ResidualQuantizer(rows.shape[1], levels, BITS)
    quantizer.max_beam_size = 1
    quantizer.train(rows)
    return quantizer


def codebooks(quantizer: faiss.ResidualQuantizer) -> np.ndarray:
    """(levels, codes, dimension)."""
    return faiss.vector_to_array(quantizer.codebooks).reshape(quantizer.M, -1, quantizer.d)


def flat_chain(books: np.ndarray) -> Encode:
    """Level by level the nearest code, found by a flat index, and what it leaves."""
    indexes = []
    for book in books:
        indexes.append(faiss.IndexFlatL2(book.shape[1]))
        indexes[-1].add(book)

    def encode(rows: np.ndarray) -> np.ndarray:
        tokens, left = np.empty((len(rows), len(books)), np.int32), rows
        for level, (index, book) in enumerate(zip(indexes, books, strict=True)):
            tokens[:, level] = index.search(left, 1)[1][:, 0]
            left = left - book[tokens[:, level]]
        return tokens

    return encode


def race(ours: Encode, theirs: Encode, rows: np.ndarray, rounds: int) -> tuple[list[list[float]], float]:
    """Seconds per round of both, and the share of the rows that both give the same tokens."""
    seconds: list[list[float]] = []
    for number in range(rounds + 1):  # the first round warms up
        taken, found = [0.0, 0.0], [rows, rows]
        for turn in (0, 1) if number % 2 else (1, 0):
            begun = time.perf_counter()
            found[turn] = (ours, theirs)[turn](rows)
            taken[turn] = time.perf_counter() - begun
        if number:
            seconds.append(taken)
    return seconds, float((found[0] == found[1]).all(axis=1).mean())


def main() -> None:
    """Run the races and print them."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--dimension", type=int, default=384)
    parser.add_argument("--levels", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1, help="one, as in an actor of the pool")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    faiss.omp_set_num_threads(args.threads)
    rows = embeddings(args.rows, args.dimension, 0)
    quantizer = residual_quantizer(rows[:20_000], args.levels)
    books = codebooks(quantizer)
    tokenizer = Tokenizer("res_kmeans", tuple(map(on_embeddings, books)))
    rivals: dict[str, Encode] = {
        "a chain of IndexFlatL2": flat_chain(books),
        "ResidualQuantizer.compute_codes": quantizer.compute_codes,
    }
    print(f"{args.rows} x {args.dimension}, {args.levels} levels of {2**BITS} codes, threads: {args.threads}")
    with threadpool_limits(args.threads):
        for name, rival in rivals.items():
            seconds, same = race(lambda rows: tokenizer.encode(None, rows), rival, rows, args.rounds)
            ratios = [theirs / mine for mine, theirs in seconds]
            middle = np.median(seconds, axis=0)
            print(
                f"{name} takes {np.median(ratios):.2f} x our time (range {min(ratios):.2f}-{max(ratios):.2f}); "
                f"medians {middle[0]:.2f} s, {middle[1]:.2f} s; the same SIDs for {same:.3%}"
            )


if __name__ == "__main__":
    main()
