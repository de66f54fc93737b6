"""Distil a ViT from a live ViT teacher in bfloat16 on a GPU: the part of the card's own matmul rate
that is reached.

Run: ``python -m bench.gpu``. It adds an entry to ``bench/results.json``; without a GPU it says so
  and does nothing.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import os
import pathlib
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

from bench.claims import Case, Claim, spread
from bench.problem import Problem
from bench.run import RESULTS, check, measure, save
from bench.vit_problem import forward_flops
from bench.worker import Worker
from kd.evidence import machine

LOSSES_AGREE = 0.02  # relative: bfloat16 has 8 bits


def main(argv: Sequence[str] | None = None) -> int:
    args = _parser().parse_args(argv)
    device = printed("import jax; print(jax.devices()[0].device_kind)", args.platform)
    if device is None:
        print("no GPU that JAX can use: nothing measured", file=sys.stderr)
        return 0
    torch = printed(_TORCH[args.platform], args.platform)
    if torch is None:
        print("no PyTorch that can use it: kd alone is measured", file=sys.stderr)
    problem = Problem(
        0,
        0,
        args.student,
        pixels=args.pixels,
        vit_steps=args.steps,
        teacher=args.teacher,
        dtype="bfloat16",
    )
    results = {
        "command": " ".join(["python -m bench.gpu", *(sys.argv[1:] if argv is None else argv)])
    }
    with Worker("bench.with_kd", problem, args.platform) as kd:
        if torch is None:
            results |= measured({"kd": kd}, problem, args.batch, args.matmul, args.repeats)
        else:
            with Worker("bench.with_torch", problem, args.platform) as theirs:
                results |= measured(
                    {"kd": kd, "torch": theirs}, problem, args.batch, args.matmul, args.repeats
                )
    versions = {"jax": importlib.metadata.version("jax"), "torch": torch}
    save(
        args.out,
        {"gpu": {**results, "machine": {**machine(), "devices": device}, "versions": versions}},
    )
    return 0


def measured(
    workers: dict[str, Worker], problem: Problem, batch: int, matmul: int, repeats: int
) -> dict[str, Any]:
    """Times, rates and ratios; the sides that there are take turns with the matmul.

    Raises:
      SystemExit: the losses of both sides do not agree.
    """
    difference = None
    if len(workers) > 1:
        difference = check(workers, batch, "check vit", "check vit")["loss"]
        if not difference < LOSSES_AGREE:
            raise SystemExit(
                f"kd and PyTorch do not compute the same: their losses differ by {difference:.1e}"
            )
    ceiling = Case("kd", "matmul", matmul)
    sides = {side: Case(side, "distil", batch) for side in workers}
    samples = measure(workers, [*sides.values(), ceiling], repeats, "distillation").samples
    rate = 2 * matmul**3 / samples[ceiling] * 1e3
    work = step_flops(problem.vit, problem.teacher, problem.pixels, batch)
    rows = {
        side: {
            "ms_per_step": spread(samples[case]),
            "images_per_second": spread(batch / samples[case] * 1e3),
            "part_of_ceiling": spread(work / samples[case] * 1e3 / rate),
        }
        for side, case in sides.items()
    }
    claim = None
    if len(workers) > 1:
        claim = Claim("distillation", sides["kd"], sides["torch"], "PyTorch compiled").judged(
            samples
        )
    return {
        "student": problem.vit,
        "teacher": problem.teacher,
        "pixels": problem.pixels,
        "batch": batch,
        "steps": problem.vit_steps,
        "repeats": repeats,
        "flops_per_step": work,
        "matmul": {"size": matmul, "tflops": spread(rate / 1e12)},
        "losses_differ": difference,
        "sides": rows,
        "comparison": claim,
    }


def step_flops(student: str, teacher: str, pixels: int, batch: int) -> float:
    """FLOPs that a step needs: the student's forward, its backward of twice that, and the teacher's
    forward.

    What is computed again in the backward pass does not count.
    """
    return batch * (3 * forward_flops(student, pixels) + forward_flops(teacher, pixels))


_TORCH = {
    "cuda": "import torch; assert torch.cuda.is_available(); print(torch.__version__)",
    "cpu": "import torch; print(torch.__version__)",
}


def printed(program: str, platform: str) -> str | None:
    """What a Python of its own prints, so that this one holds no memory of the device; None where
    it fails.
    """
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "JAX_PLATFORMS": platform},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout.strip() if done.returncode == 0 else None


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench.gpu", description=__doc__)
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--steps", type=int, default=20, help="steps that are timed at once")
    parser.add_argument(
        "--repeats", type=int, default=9, help="rounds in which every case is timed once"
    )
    parser.add_argument("--student", default="S/16")
    parser.add_argument("--teacher", default="B/16")
    parser.add_argument("--pixels", type=int, default=224)
    parser.add_argument(
        "--matmul", type=int, default=8192, help="side of the square matrices of the ceiling"
    )
    parser.add_argument(
        "--platform", choices=sorted(_TORCH), default="cuda", help="cpu is for trying it out"
    )
    parser.add_argument("--out", type=pathlib.Path, default=RESULTS)
    return parser


if __name__ == "__main__":
    sys.exit(main())
