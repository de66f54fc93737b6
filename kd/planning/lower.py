"""From a config to what the compiler is given: the training step, and the teacher's forward pass
alone, as shapes.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from kd.config import Spec

if TYPE_CHECKING:
    from kd.training.task import Task


@dataclasses.dataclass(frozen=True)
class Facts:
    """What the price of a run depends on besides its step.

    `width` is the number of logits per example.
    """

    batch_size: int
    total_steps: int
    examples: int
    members: int = 1
    width: int = 0


@dataclasses.dataclass(frozen=True)
class Lowering:
    """A step ready to compile. `held` is what a device holds between steps, in bytes, by part; all
    before compiling.
    """

    step: Any  # jax.stages.Lowered
    teacher: Any  # jax.stages.Lowered, or None
    held: Mapping[str, int]
    facts: Facts


def lower(spec: Spec, devices: Sequence[Any]) -> Lowering:
    """The step and the teacher of a config on `devices`, which need not exist; neither data nor
    teacher is loaded.

    Raises:
      KdError: mesh, batch, rules and models that do not fit together.
    """
    import jax

    from kd.models.abstract import shapes
    from kd.placement.mesh import BATCH, make_mesh, sharding
    from kd.placement.sharding import bytes_per_device
    from kd.runs.build import planned
    from kd.teachers.make import unpaired_answer
    from kd.training.program import lower as lower_step
    from kd.training.program import place
    from kd.training.task import (
        abstract_batch,
        teacher_variables,
    )

    mesh = make_mesh(spec.mesh, devices)
    asked = planned(spec, mesh)
    task = with_answers_kept(asked) if spec.teacher.precompute else asked
    placement = place(task)
    state, variables = task.abstract_state, jax.eval_shape(lambda: teacher_variables(task))
    held = {
        "parameters": bytes_per_device(state.params, placement.state.params),
        "optimiser": bytes_per_device(state.opt_state, placement.state.opt_state),
        "other state": bytes_per_device(state, placement.state),
        "teacher": 0,
    }
    if task.teacher is not None:
        held["teacher"] = bytes_per_device(variables, placement.teacher)
    held["other state"] -= held["parameters"] + held["optimiser"]
    batch = abstract_batch(task)
    answer = shapes(task.model, batch["inputs"]).outputs
    teacher = None
    live = None if asked.teacher is None or asked.teacher.manifest is not None else asked.teacher
    if live is not None and live.pairs is None:
        one_batch = sharding(mesh, BATCH)  # alone it answers once, whatever the number of students
        jitted = jax.jit(unpaired_answer(live), in_shardings=(place(asked).teacher, one_batch))
        with jax.set_mesh(mesh):
            teacher = jitted.lower(live.variables, batch)
    facts = Facts(
        task.batch_size,
        task.total_steps,
        len(task.data),
        task.members.size or 1,
        answer.width,
    )
    return Lowering(lower_step(task), teacher, held, facts)


def with_answers_kept(task: Task) -> Task:
    """What is trained when `teacher.precompute` is on: the shapes of the teacher's logits in place
    of its weights.
    """
    import jax
    import jax.numpy as jnp

    from kd.data import example_batch
    from kd.teachers.make import kept_shapes

    teacher = task.tapped_teacher
    if teacher is None or teacher.manifest is not None:
        return task
    apply = teacher.apply if teacher.pairs is None else jax.vmap(teacher.apply, in_axes=(0, None))
    rows = len(task.data)
    batch = jax.eval_shape(lambda: example_batch(task.data, rows))
    answers = jax.eval_shape(lambda v, b: apply(v, b).astype(jnp.float32), teacher.variables, batch)
    return dataclasses.replace(task, teacher=kept_shapes(answers, rows, teacher.pairs))
