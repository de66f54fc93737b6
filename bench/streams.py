"""Time a step on streamed data beside one on the same data in memory, and threads beside processes
that decode images.

Writes the entry ``streams`` of this machine in ``bench/results.json``.
Run: ``python -m bench.streams``.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import contextlib
import multiprocessing
import os
import pathlib
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from bench import records
from bench.claims import spread
from bench.entry import Entry
from bench.prepared import prepare
from bench.problem import LEARNING_RATE, MOMENTUM
from bench.run import RESULTS, SETTLE_SECONDS
from bench.steps import seconds_in_epochs
from kd import data as kd_data
from kd.core.members import make_members
from kd.core.optim import Optim, make_optimizer
from kd.core.terms import term
from kd.data.pipeline import most_threads
from kd.models.mlp import mlp
from kd.placement.mesh import MeshSpec
from kd.system.kept import SETTLED
from kd.training.loop import Cadence
from kd.training.task import make_task

CLASSES, PIXELS = 10, 28
AT_MOST = 5.0
"""Times a step on data in memory, for one on a stream of what was decoded once."""
WINS = 1.3
"""Times the speed of threads, from which processes are worth their trouble."""
EPOCHS = 2
MEMORY, KEPT, DECODED = "in memory", "streamed, decoded once", "streamed, decoded in every step"
_SHARD, _BLOCK = 10_000, 256  # examples in a file, and that are decoded at once

Examples = kd_data.Dataset | kd_data.Stream


def main(argv: Sequence[str] | None = None) -> int:
    args = _parser().parse_args(argv)
    entry = Entry("streams", argv)
    with tempfile.TemporaryDirectory(prefix="kd-bench-") as path:
        streamed = streaming(pathlib.Path(path), args.examples, args.batch, args.repeats)
    rows = [
        decoding("PNG", list(records.pngs(args.pngs, PIXELS)), args.repeats),
        decoding("JPEG", list(records.jpegs(args.jpegs, args.pixels)), args.repeats),
    ]
    values = {
        "student": f"{PIXELS**2}-{CLASSES}",
        "examples": args.examples,
        "batch": args.batch,
        "repeats": args.repeats,
        **streamed,
        "decoding": rows,
        "workers": most_threads(),
    }
    entry.save(args.out, values, ("jax", "pillow"))
    return 0


def streaming(path: pathlib.Path, examples: int, batch: int, repeats: int) -> dict[str, Any]:
    """Milliseconds of a step in each epoch: of data in memory, of a stream that reads what was
    decoded once, and of one that decodes; and the seconds of decoding once.

    Every way opens its data anew in every round; the first round compiles and is thrown away.
    """
    prepare(path, {"train": records.pngs(examples, PIXELS)}, shard=_SHARD)
    time.sleep(SETTLED)  # of newer files nothing is kept

    def stream() -> kd_data.Stream:
        return kd_data.open_stream("tfds:mnist", "train", str(path))

    kept = str(path / "kept")
    ways: dict[str, tuple[str, Callable[[], Examples]]] = {
        MEMORY: (kept, lambda: kd_data.in_memory(stream())),
        KEPT: (kept, stream),
        DECODED: ("off", stream),
    }
    with _keeping(kept):
        start = time.perf_counter()
        stream()
        once = time.perf_counter() - start
    samples: dict[str, list[list[float]]] = {way: [] for way in ways}
    for i in range(repeats + 1):
        for way in list(ways)[:: 1 if i % 2 else -1]:
            time.sleep(SETTLE_SECONDS)
            place, opened = ways[way]
            with _keeping(place):
                samples[way].append(_milliseconds(opened(), batch))
        print(f"streams: round {i} of {repeats}", file=sys.stderr, flush=True)
    values = {way: np.asarray(times[1:]).T for way, times in samples.items()}  # [epochs rounds]
    rows = []
    for way, times in values.items():
        ratios = [spread(epoch) for epoch in times / values[MEMORY]]
        within = all(ratio["median"] <= AT_MOST for ratio in ratios)
        rows.append(
            {
                "data": way,
                "ms": [spread(epoch) for epoch in times],
                "ratio": ratios,
                "met": within if way == KEPT else None,
            }
        )
    return {"once": round(once, 2), "epochs": rows}


def decoding(form: str, contents: Sequence[bytes], repeats: int) -> dict[str, Any]:
    """Seconds of decoding images in blocks, by threads and by as many processes that are there
    already; and of the first time by processes, which starts them.
    """
    workers = most_threads()
    size = max(1, min(_BLOCK, len(contents) // (4 * workers)))
    blocks = [contents[start : start + size] for start in range(0, len(contents), size)]
    images = records.decoded(contents)
    spawned = multiprocessing.get_context("spawn")
    with (
        concurrent.futures.ThreadPoolExecutor(workers) as threads,
        concurrent.futures.ProcessPoolExecutor(workers, spawned) as processes,
    ):
        pools = {"threads": threads, "processes": processes}
        first = {way: _seconds(pool, blocks, images) for way, pool in pools.items()}
        samples: dict[str, list[float]] = {way: [] for way in pools}
        for i in range(repeats):
            for way in list(pools)[:: 1 if i % 2 else -1]:
                time.sleep(SETTLE_SECONDS)
                samples[way].append(_seconds(pools[way], blocks, images))
    values = {way: np.asarray(times) for way, times in samples.items()}
    ratio = spread(values["threads"] / values["processes"])
    return {
        "form": form,
        "pixels": images.shape[1],
        "images": len(contents),
        "seconds": {way: spread(times) for way, times in values.items()},
        "first": round(first["processes"], 2),
        "ratio": ratio,
        "processes_win": ratio["median"] > WINS,
    }


def _seconds(
    pool: concurrent.futures.Executor, blocks: Sequence[Sequence[bytes]], images: np.ndarray
) -> float:
    """The seconds of decoding all blocks into `images`."""
    start, place = time.perf_counter(), 0
    for block in pool.map(records.decoded, blocks):
        images[place : place + len(block)] = block
        place += len(block)
    return time.perf_counter() - start


def _milliseconds(data: Examples, batch: int) -> list[float]:
    terms = [term("hard")]
    task = make_task(
        mlp(CLASSES, ()),
        data,
        terms,
        make_members(terms, {}, LEARNING_RATE),
        optimizer=make_optimizer(Optim(momentum=MOMENTUM)),
        steps=EPOCHS * (len(data) // batch),
        batch_size=batch,
        mesh=MeshSpec(devices=1),
    )
    return [seconds * 1e3 for seconds in seconds_in_epochs(task, EPOCHS, Cadence().dispatch)]


@contextlib.contextmanager
def _keeping(place: str) -> Iterator[None]:
    """What is decoded is kept in `place`, or nowhere ("off")."""
    before = os.environ.get("KD_CACHE_DIR")
    os.environ["KD_CACHE_DIR"] = place
    try:
        yield
    finally:
        del os.environ["KD_CACHE_DIR"]
        if before is not None:
            os.environ["KD_CACHE_DIR"] = before


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench.streams", description=__doc__)
    parser.add_argument("--examples", type=int, default=60_000, help="images of a data set")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--pngs", type=int, default=20_000, help="PNGs that are decoded")
    parser.add_argument("--jpegs", type=int, default=1000, help="JPEGs that are decoded")
    parser.add_argument("--pixels", type=int, default=224, help="of a side of a JPEG")
    parser.add_argument("--repeats", type=int, default=5, help="rounds in which all are timed")
    parser.add_argument("--out", type=pathlib.Path, default=RESULTS)
    return parser


if __name__ == "__main__":
    sys.exit(main())
