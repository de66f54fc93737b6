"""Time reading a folder of images beside decoding alone, and eq. 5 for generalist and specialists.

Writes the entry ``images`` of this machine in ``bench/results.json``.
Run: ``python -m bench.images``.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import functools
import io
import os
import pathlib
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from PIL import Image

from bench import records
from bench.claims import spread
from bench.entry import Entry
from bench.run import RESULTS, SETTLE_SECONDS
from kd import specialists
from kd.data.images.folder import folder
from kd.data.pipeline import most_threads

AT_LEAST = 0.8
"""Of the speed of decoding bare."""
AT_MOST = 10.0
"""Seconds of eq. 5 for 5,000 examples, compilation included."""
CLASSES, SPECIALISTS, SPECIAL = 150, 10, 30
CERTAIN = 4.0
"""Deviation of the logits: the most probable class has 0.9, about as networks have."""


def main(argv: Sequence[str] | None = None) -> int:
    args = _parser().parse_args(argv)
    os.environ["KD_CACHE_DIR"] = "off"  # what is decoded would be kept
    entry = Entry("images", argv)
    with tempfile.TemporaryDirectory(prefix="kd-bench-") as path:
        rows = [
            reading(pathlib.Path(path, str(pixels)), args.files, pixels, args.repeats)
            for pixels in args.pixels
        ]
    solved = equation(args.examples)
    values = {
        "files": args.files,
        "repeats": args.repeats,
        "reading": rows,
        "equation": solved,
    }
    entry.save(args.out, values, ("jax", "pillow"))
    return 0


def reading(path: pathlib.Path, files: int, pixels: int, repeats: int) -> dict[str, Any]:
    """Seconds of a folder as a data set in memory, and of its files decoded by as many threads.

    The first round fills the system's cache of files and is thrown away.
    """
    names = _images(path, files, pixels)
    ways: dict[str, Callable[[], object]] = {
        "kd": lambda: folder("train", str(path), None),
        "bare": lambda: _decoded(names),
    }
    samples: dict[str, list[float]] = {way: [] for way in ways}
    for i in range(repeats + 1):
        for way in list(ways)[:: 1 if i % 2 else -1]:
            time.sleep(SETTLE_SECONDS)
            samples[way].append(_seconds(ways[way]))
    values = {way: np.asarray(times[1:]) for way, times in samples.items()}
    ratio = spread(values["bare"] / values["kd"])
    return {
        "pixels": pixels,
        "seconds": {way: spread(times) for way, times in values.items()},
        "ratio": ratio,
        "met": ratio["median"] >= AT_LEAST,
    }


def equation(examples: int) -> dict[str, Any]:
    """Seconds of eq. 5 for so many examples, the first time and again, and how well it is solved.

    The logits are random; every class is special to two specialists.
    """
    rng = np.random.default_rng(5)
    general = rng.normal(0, CERTAIN, (examples, CLASSES))
    special = rng.normal(0, CERTAIN, (SPECIALISTS, examples, CLASSES))
    starts = np.arange(SPECIALISTS) * CLASSES // SPECIALISTS
    classes = ((starts[:, None] + np.arange(SPECIAL)) % CLASSES).tolist()
    rows = []
    for top in (1, 2):
        solve = functools.partial(specialists.joint, general, special, classes, top=top)
        first, again = _seconds(solve), _seconds(solve)
        solved = solve()
        rows.append(
            {
                "top": top,
                "seconds": {"first": round(first, 2), "again": round(again, 2)},
                "iterations": int(solved.iterations.max()),
                "gradient": float(solved.gradient.max()),
                "met": first <= AT_MOST,
            }
        )
    return {"examples": examples, "classes": CLASSES, "specialists": SPECIALISTS, "rows": rows}


def _images(path: pathlib.Path, files: int, pixels: int) -> list[pathlib.Path]:
    """Files of ten classes; their paths."""
    names = []
    for number, content in enumerate(records.jpegs(files, pixels)):
        name = path / "train" / f"class {number % 10}" / f"{number}.jpg"
        name.parent.mkdir(parents=True, exist_ok=True)
        name.write_bytes(content)
        names.append(name)
    return names


def _decoded(names: Sequence[pathlib.Path]) -> list[np.ndarray]:
    def pixels(name: pathlib.Path) -> np.ndarray:
        return np.asarray(Image.open(io.BytesIO(name.read_bytes())))

    with concurrent.futures.ThreadPoolExecutor(most_threads()) as pool:
        return list(pool.map(pixels, names))


def _seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench.images", description=__doc__)
    parser.add_argument("--files", type=int, default=2000, help="images in a folder")
    parser.add_argument("--pixels", type=int, nargs="+", default=[64, 224], help="of a side")
    parser.add_argument("--examples", type=int, default=5000, help="of which eq. 5 is solved")
    parser.add_argument("--repeats", type=int, default=5, help="rounds in which both are timed")
    parser.add_argument("--out", type=pathlib.Path, default=RESULTS)
    return parser


if __name__ == "__main__":
    sys.exit(main())
