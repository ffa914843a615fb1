"""What a training worker of alignment holds: a window of lessons at a time, beside every prompt and vector at once.

Synthetic items (see scale.py) and as many triples as asked for, each of them learnt from once, in steps of the default
batch. Lessons are prepared for all steps; then a process of its own does what a worker does without Ray: it makes the
policy, takes a step forward and backward, and reads every window. Another reads the items of all triples at once in
the windows' place. Prints seconds, what lessons take on the disk, and the peak resident memory of either process.

    python benchmarks/lessons.py --items 30000 300000 --triples 1000000
"""

import argparse
import multiprocessing
import os
import resource
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from scale import catalogue

from lgsid_ray.align.lessons import LESSONS, Lessons, prepare
from lgsid_ray.align.policy import Policy
from lgsid_ray.align.triples import batch_rows
from lgsid_ray.arrays import Int64
from lgsid_ray.artifacts import Embeddings, Items
from lgsid_ray.config import load
from lgsid_ray.config.align import GdpoConfig
from lgsid_ray.encoder.prompts import full_prompts
from lgsid_ray.execution.session import ray_session
from lgsid_ray.execution.storage import StageDir

CONFIG = load(None, ["ray.address=local", "align.objective=gdpo", "align.enabled=true"])
PROMPT = CONFIG.encoder.prompt


def stepped(prompts: list[str]) -> Policy:
    """A policy that has gone forward and backward with a batch."""
    assert isinstance(CONFIG.align, GdpoConfig)
    torch.set_num_threads(1)
    policy = Policy(CONFIG.encoder, CONFIG.align)
    policy(prompts).sum().backward()
    return policy


def by_windows(lessons: Lessons, windows: int) -> None:
    """What a worker does with lessons."""
    corpus, asked = lessons.corpus(0), lessons.asked(0)
    policy = stepped([corpus.prompts[row] for row in corpus.rows(asked[0])])
    judging = lessons.judging()
    del corpus
    for window in range(windows):
        lessons.corpus(window)
    del policy, judging


def at_once(inputs: dict[str, StageDir], triples: Int64) -> None:
    """The same with every item that a triple names."""
    index = np.unique(triples)
    reference = torch.tensor(Embeddings(inputs["embed"]).of(index))
    prompts = full_prompts(Items(inputs["catalogue"]).rows(index), PROMPT)
    policy = stepped([prompts[row] for row in np.searchsorted(index, triples[: CONFIG.align.batch_size].ravel())])
    del policy, reference


def peak_gib(call: str, *arguments: object) -> float:
    """Peak resident memory of a fresh process that does it."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_measured, (call, arguments))


def _measured(call: str, arguments: tuple[object, ...]) -> float:
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    {"by_windows": by_windows, "at_once": at_once}[call](*arguments)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def main() -> None:
    """Prepare and read at every number of items, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--items", type=int, nargs="+", default=[30_000, 300_000])
    parser.add_argument("--triples", type=int, default=1_000_000)
    parser.add_argument("--folder", help="where the tables go while they are needed; default: a temporary folder")
    args = parser.parse_args()
    batch = CONFIG.align.batch_size
    steps = args.triples // batch
    for count in args.items:
        triples = np.random.default_rng(0).integers(0, count, (args.triples, 3))

        def asks(step: int, triples: Int64 = triples) -> Int64:
            return triples[batch_rows(len(triples), batch, step, 0)]

        with tempfile.TemporaryDirectory(dir=args.folder) as folder:
            made = catalogue(Path(folder), count, 384)
            inputs = {"catalogue": made["catalogue"], "embed": made["vectors"]}
            out = StageDir(f"{folder}/out").make()
            with ray_session(CONFIG.ray):
                begun = time.perf_counter()
                lessons = prepare(inputs, PROMPT, asks, steps, CONFIG.align.probe, 0, out)
                seconds = time.perf_counter() - begun
            windows = lessons.window(steps - 1) + 1
            disk = sum(file.stat().st_size for file in Path(out.path(LESSONS)).rglob("*.parquet")) / 2**30
            peaks = peak_gib("by_windows", lessons, windows), peak_gib("at_once", inputs, triples)
        print(
            f"{count:>9,} items, {args.triples:,} triples: {steps:,} steps in {windows} windows, prepared in "
            f"{seconds:.1f} s, {disk:.2f} GiB on the disk; a worker holds {peaks[0]:.2f} GiB, all at once "
            f"{peaks[1]:.2f} GiB, ratio {peaks[1] / peaks[0]:.2f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
