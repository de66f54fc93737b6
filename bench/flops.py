"""The FLOPs of a step: products of matrices alone, as ``kd plan`` counts them."""

from __future__ import annotations

import itertools

from bench import problem as p
from bench.problem import Problem
from bench.vit_problem import attention_flops, forward_flops, mlp_flops
from kd.models.vit import parse_variant

STUDENTS = ("student", "scan", "loop")


def of_step(name: str, batch: int, problem: Problem) -> float | None:
    """Of one step of the case `name`; None where products of matrices are not what takes the time.

    A batch in parts needs what the whole batch needs.
    """
    if name.startswith(STUDENTS):
        return mlp_step(batch)
    if name.startswith("population"):
        return p.MEMBERS * mlp_step(batch)
    if not name.startswith("vit"):
        return None
    part = name.removeprefix("vit ")
    if part in ("norms", "update"):
        return None
    if part in ("attention", "mlp"):
        return 3 * batch * _blocks(part, problem)
    variant = problem.small_vit if name.startswith("vit, batch in") else problem.vit
    return 3 * batch * forward_flops(variant, problem.pixels)


def mlp_step(batch: int) -> float:
    """Forward, gradients of the weights, and gradients of every layer's inputs but the images.

    Formula: ``2 b (3 sum_i n_i m_i - n_0 m_0)``, with ``n`` inputs and ``m`` outputs of a layer.
    """
    products = [inputs * outputs for inputs, outputs in itertools.pairwise(p.WIDTHS)]
    return 2.0 * batch * (3 * sum(products) - products[0])


def _blocks(part: str, problem: Problem) -> float:
    size, patch = parse_variant(problem.vit)
    tokens = (problem.pixels // patch) ** 2
    of_block = {"attention": attention_flops, "mlp": mlp_flops}[part]
    return size.depth * of_block(size, tokens)
