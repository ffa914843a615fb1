"""The tokenise stage, or the frontier stage, at several numbers of items: seconds, peak memory, and how they grow.

The items are synthetic: places around towns, vectors around as many centres, written as the catalogue and embedding
stages would write them. Every run has the same settings, so the work is in proportion to the items. Peak memory is that
of all processes, Ray's included, shared pages counted once. Prints a row per number, and the exponent a of
seconds ~ items^a fitted to the rows.

    python benchmarks/scale.py --items 100000 300000 1000000 2300000 --dimension 384
    python benchmarks/scale.py --stage frontier --items 100000 300000 1000000 2300000

The frontier stage judges four spaces (reference, fused, aligned, content; here all are the same file) and every arm.
"""

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa

from lgsid_ray.artifacts import Embeddings, ItemLocations, Items, Locations
from lgsid_ray.artifacts.embeddings import column
from lgsid_ray.config import RunConfig, load
from lgsid_ray.evaluate.space import SPACES
from lgsid_ray.evaluate.stage import frontier
from lgsid_ray.execution.memory import PeakMemory
from lgsid_ray.execution.session import ray_session
from lgsid_ray.execution.storage import StageDir
from lgsid_ray.tokenizer.stage import tokenise

PART = 65_536
TOWNS = 2_000


def catalogue(folder: Path, count: int, dimension: int) -> dict[str, StageDir]:
    """Finished stages of `count` items with (count, dimension) vectors of length 1."""
    items, vectors, located = (StageDir(f"{folder}/{name}") for name in ("catalogue", "embed", "embed_location"))
    towns = np.random.default_rng(0)
    centres = towns.standard_normal((TOWNS, dimension)).astype(np.float32)
    lat, lon = towns.uniform(-60, 60, TOWNS), towns.uniform(-180, 180, TOWNS)
    for part, start in enumerate(range(0, count, PART)):
        rng, index = np.random.default_rng(part + 1), np.arange(start, min(start + PART, count))
        town, kind = rng.integers(0, TOWNS, len(index)), rng.integers(0, TOWNS, len(index))
        columns = {
            "item_index": index,
            "item_id": [f"item-{row:09d}" for row in index],
            "name": [f"place {row}" for row in index],
            "category_1": [f"c{number % 20}" for number in kind],
            "province": [f"p{number % 30}" for number in town],
            "city": [f"q{number % 300}" for number in town],
            "district": [f"r{number}" for number in town],
            "lat": lat[town] + 0.05 * rng.standard_normal(len(index)),
            "lon": lon[town] + 0.05 * rng.standard_normal(len(index)),
            **dict.fromkeys(("province_filled", "city_filled", "district_filled"), [False] * len(index)),
            "split": ["train"] * len(index),
        }
        empty = [None] * len(index)
        table = pa.table({f.name: pa.array(columns.get(f.name, empty), f.type) for f in Items.schema})
        Items(items).write(table, f"part-{part:05d}.parquet")
        ItemLocations(located).write(pa.table({"item_index": index, "text": town}), f"part-{part:05d}.parquet")
        rows = centres[kind] + rng.standard_normal((len(index), dimension), dtype=np.float32)
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
        keys = table.select(["item_index", "item_id"])
        Embeddings(vectors).write(keys.append_column("embedding", column(rows)), f"part-{part:05d}.parquet")
    vectors.write_json("manifest.json", {"stage": "embed", "fingerprint": "0" * 16})
    prompt = {"content": ["{name}"], "location": [], "separator": ", "}
    vectors.write_json("encoder.json", {"kind": "random_projection", "prompt": prompt})
    texts = {"text": [f"town {town}" for town in range(TOWNS)], "items": [1] * TOWNS, "training_items": [1] * TOWNS}
    said = towns.standard_normal((TOWNS, dimension)).astype(np.float32)
    said /= np.linalg.norm(said, axis=1, keepdims=True)
    Locations(located).write(pa.table({**texts, "embedding": column(said)}), "part-00000.parquet")
    return {"catalogue": items, "vectors": vectors, "embed_location": located} | dict.fromkeys(SPACES.values(), vectors)


def measured(stage: str, config: RunConfig, folder: Path, count: int, dimension: int) -> tuple[float, float]:
    """Seconds and GiB of one run of the stage."""
    inputs, out = catalogue(folder, count, dimension), StageDir(f"{folder}/out").make()
    with PeakMemory() as memory, ray_session(config.ray):
        begun = time.perf_counter()
        {"tokenise": tokenise, "frontier": frontier}[stage](config, inputs, out)
        return time.perf_counter() - begun, memory.peak_mb / 1024


def exponent(counts: list[int], values: list[float]) -> float:
    """a of value ~ count^a, by least squares of the logarithms."""
    return float(np.polyfit(np.log(counts), np.log(values), 1)[0])


def main() -> None:
    """Run the stage at every number and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--stage", choices=["tokenise", "frontier"], default="tokenise")
    parser.add_argument("--items", type=int, nargs="+", default=[100_000, 300_000, 1_000_000, 2_300_000])
    parser.add_argument("--dimension", type=int, default=384)
    parser.add_argument("--sizes", type=int, nargs="+", default=[256, 256, 256], help="of the tokenizer's levels")
    parser.add_argument("--iterations", type=int, default=10, help="of K-Means, per level")
    parser.add_argument("--queries", type=int, help="of the frontier; default: as many as `evaluate.queries: auto`")
    parser.add_argument("--folder", help="where the tables go while they are needed; default: a temporary folder")
    args = parser.parse_args()
    settings = ["ray.address=local", f"tokenizer.sizes={args.sizes}", f"tokenizer.kmeans.iterations={args.iterations}"]
    if args.queries:
        settings.append(f"evaluate.queries={args.queries}")
    config = load(None, [*settings, "tokenizer.kmeans.tolerance=0", "tokenizer.embeddings=origin"])
    seconds, peaks = [], []
    for count in args.items:
        with tempfile.TemporaryDirectory(dir=args.folder) as folder:
            taken, peak = measured(args.stage, config, Path(folder), count, args.dimension)
        seconds.append(taken)
        peaks.append(peak)
        print(
            f"{count:>10,} items: {taken:8.1f} s, {taken / count * 1e6:6.1f} s per million, {peak:5.2f} GiB", flush=True
        )
    if len(args.items) > 1:
        print(f"seconds ~ items^{exponent(args.items, seconds):.3f}, GiB ~ items^{exponent(args.items, peaks):.3f}")


if __name__ == "__main__":
    main()
