"""Time steps before and after a profile of ten of them, against the same run without one.

Run: ``python -m bench.profiled``. It prints a row; nothing is recorded.
"""

from __future__ import annotations

import argparse
import pathlib
import tempfile
from collections.abc import Sequence

import numpy as np

from bench.claims import spread
from kd.config import base_config, resolve
from kd.runs.run import train_workdir
from kd.training.profile import Profile, window
from kd.training.timing import read

LINE = 50  # steps


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--repeats", type=int, default=5)
    args = parser.parse_args(argv)
    middle = args.steps // 2 // LINE * LINE
    steps = f"{middle}:{middle + 10}"
    _run(LINE, None)  # the process is warm
    pairs = [_pair(args.steps, steps, number % 2 == 1) for number in range(args.repeats)]
    sides = {"before": slice(2, middle // LINE), "after": slice(middle // LINE + 2, -1)}
    for name, side in sides.items():
        medians = [[float(np.median(times[side])) for times in pair] for pair in pairs]
        ratio = spread(np.asarray([profiled / plain for profiled, plain in medians]))
        milliseconds = 1e3 * float(np.median([plain for _, plain in medians]))
        print(f"{name}: {milliseconds:.3f} ms a step; with a profile over without: {ratio}")
    return 0


def _pair(steps: int, profile: str, swapped: bool) -> tuple[np.ndarray, np.ndarray]:
    """With a profile and without, side by side, one or the other first."""
    if swapped:
        plain = _run(steps, None)
        return _run(steps, profile), plain
    return _run(steps, profile), _run(steps, None)


def _run(steps: int, profile: str | None) -> np.ndarray:
    """Seconds of a step, line by line: a student 64-800-800-10 on digits, batch 128."""
    config = base_config()
    config.student = {"name": "mlp", "widths": (800, 800)}
    config.objective = {"hard": {"weight": 1.0}}
    config.data.train, config.data.eval, config.data.batch_size = "train", "test", 128
    config.total_steps, config.log_steps, config.mesh.devices = steps, LINE, 1
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "run"
        watched = None if profile is None else Profile(window(profile))
        train_workdir(resolve(config), path, profile=watched)
        lines = [line for line in read(path / "timing.jsonl") if "step_seconds" in line]
    return np.asarray([line["step_seconds"] for line in lines])


if __name__ == "__main__":
    main()
