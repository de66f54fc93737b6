"""What a training run is made of, before anything is compiled."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh

from kd import data as kd_data
from kd.core import rng
from kd.core.heads import init_heads
from kd.core.leaves import check_frozen, of_the_rest
from kd.core.manifest import check_answers
from kd.core.members import Members
from kd.core.objective import check_positions, check_widths, make_objective
from kd.core.schedules import Schedule, make_schedule
from kd.core.state import State, init_state, with_best, with_ema, with_heads
from kd.core.step import Constraint, Step, View, make_train_step
from kd.core.targets import check_targets
from kd.core.terms import Term, check_whole_batch, student_taps, teacher_taps
from kd.core.types import Batch, Model, Outputs, PyTree, Teacher
from kd.errors import KdError
from kd.models import as_model
from kd.models.abstract import check_model, shapes
from kd.models.vocabulary import check_vocabulary
from kd.placement.mesh import MembersBy, MeshSpec, check_batch, check_members, make_mesh
from kd.placement.sharding import Sharding, specs, teacher_shardings
from kd.teachers.answers import reading
from kd.teachers.make import unpaired_answer
from kd.teachers.trained import Trained
from kd.training.checks import check_numbers, check_optimizer, check_pairs
from kd.training.first import First, first_weights
from kd.training.ways import members_of


@dataclasses.dataclass(frozen=True)
class Task:
    """Everything that a run is made of, ready to compile.

    `make_task` makes it, for configs and for the library. `mesh` holds the devices themselves. With
    `patience` the run ends when every member has been judged so many times without getting better.
    """

    model: Model
    data: kd_data.Examples
    terms: Sequence[Term]
    members: Members
    optimizer: optax.GradientTransformation
    total_steps: int
    batch_size: int
    mesh: Mesh
    teacher: Teacher | None = None
    view: View | None = None
    constraint: Constraint | None = None
    learning_rate_schedule: Schedule = Schedule()
    early_stopping: bool = False
    patience: int | None = None
    accumulate: int = 1
    ema: float = 0.0
    sharding: Sharding = Sharding()
    members_by: MembersBy = "auto"
    first: First | None = None
    """First weights that are not drawn; None: all are."""
    freeze: tuple[str, ...] = ()
    """Patterns of the names of parameters that stay as they are."""

    @property
    def is_population(self) -> bool:
        """Whether state, batches and numbers have a leading member axis."""
        return self.members.size is not None

    @property
    def tapped_model(self) -> Model:
        """The student, whose outputs carry the inner features that the terms read."""
        return self.model.tapped(student_taps(self.terms))

    @property
    def tapped_teacher(self) -> Teacher | None:
        """The teacher, likewise."""
        return None if self.teacher is None else self.teacher.tapped(teacher_taps(self.terms))

    @property
    def has_own_teachers(self) -> bool:
        """Whether each member of the population learns from a teacher of its own."""
        return self.teacher is not None and self.teacher.pairs is not None

    @property
    def takes_parts(self) -> bool:
        """Whether a line of metrics may take several dispatches, so that a run stops within it:
        of streamed data, and of batches of several lengths.
        """
        several = len(self.data.order((0,), self.batch_size).lengths) > 1
        return several or isinstance(self.data, kd_data.Stream)

    @functools.cached_property
    def abstract_state(self) -> State:
        """Shapes and types of the state; nothing is computed, and traced once."""
        return jax.eval_shape(lambda: initial_state(self))


def make_task(
    model: Any,
    data: kd_data.Examples,
    terms: Sequence[Term],
    members: Members,
    *,
    batch_size: int,
    epochs: float | None = None,
    steps: int | None = None,
    optimizer: optax.GradientTransformation,
    freeze: Sequence[str] = (),
    teacher: Teacher | None = None,
    init: Trained | None = None,
    init_source: str = "",
    layers: Sequence[int] | None = None,
    mesh: MeshSpec | Mesh = MeshSpec(),
    **options: Any,
) -> Task:
    """The task of a run, from a config or from the library's own arguments: there is no other way.

    The run is `steps` long, or as many as `epochs` make. The teacher is shown what the student
    reads in the unit that it was trained on. Of `init`, which came from `init_source`, the student
    begins with what has its names and shapes, its blocks with those of `layers`. `options`
    are the other fields of `Task`.

    Raises:
      KdError: students paired with teachers that are not paired so, a teacher that cannot read
        these inputs, first weights that do not fit, a length or a mesh that cannot be.
    """
    if members.teachers is not None and (teacher is None or teacher.pairs != members.teachers):
        raise KdError(
            "population.teacher pairs students with teachers and the teacher is not paired so; "
            f"pass teacher=trained.teacher(pairs={members.teachers})"
        )
    if steps is None:
        steps = kd_data.steps_of(epochs or 0, len(data), batch_size)
    model, first = as_model(model), None
    if init is not None:
        first = first_weights(init, model, data.first, members.size, init_source, layers)
    if not isinstance(mesh, Mesh):
        laid_out = make_mesh(mesh)  # which refuses what is no MeshSpec
        options.setdefault("members_by", mesh.members_by)
        mesh = laid_out
    return Task(
        model=model,
        data=data,
        terms=terms,
        members=members,
        total_steps=steps,
        batch_size=batch_size,
        mesh=mesh,
        optimizer=optimizer,
        freeze=tuple(freeze),
        teacher=None if teacher is None else reading(teacher, data),
        first=first,
        **options,
    )


def initial_state(task: Task, shardings: State | None = None) -> State:
    """The state before the first step; a population's members start as runs of their own would.

    Drawn in place: with `shardings` every device computes its part only, and the numbers are the
    same.
    """
    example = jnp.asarray(task.data.first)
    first = {} if task.first is None else dict(task.first.leaves)
    own = task.first is not None and task.first.members

    def single(drawn: tuple[tuple[jax.Array, jax.Array], PyTree]) -> State:
        seeds, leaves = drawn
        optimizer = of_the_rest(task.optimizer, task.freeze)
        state = init_state(task.model, optimizer, seeds[0], example, seeds[1], leaves)
        state = with_heads(state, _heads(task, seeds[1]), task.optimizer)
        state = with_ema(state) if task.ema else state
        return with_best(state) if task.early_stopping else state

    def each(drawn: tuple[tuple[jax.Array, jax.Array], PyTree]) -> State:
        # one after another: random numbers compile several times faster than in vmap
        seeds, leaves = drawn
        start = single if own else (lambda pair: single((pair, leaves)))
        return jax.lax.map(start, drawn if own else seeds)

    drawn = (task.members.seeds, task.members.init_seeds)
    seeds = jnp.asarray(drawn[0], jnp.uint32), jnp.asarray(drawn[1], jnp.uint32)
    draw = each if task.is_population else single
    drawing = jax.jit(draw) if shardings is None else jax.jit(draw, out_shardings=shardings)
    return drawing((seeds, first))


def _heads(task: Task, seed: jax.Array) -> Any:
    """What the terms own, drawn by the seed of the first weights."""
    if all(term.info.init is None for term in task.terms):
        return None
    batch = abstract_batch(task)
    if task.view is not None:
        batch = jax.eval_shape(task.view, rng.key(0), batch)
    teacher, answer = task.tapped_teacher, None
    if teacher is not None:
        answer = jax.eval_shape(unpaired_answer(teacher), teacher.variables, batch)
    student = shapes(task.tapped_model, batch["inputs"]).outputs
    return init_heads(task.terms, rng.key(seed), student, answer, len(task.data))


def make_step(task: Task) -> Step:
    """The task's training step, of a single run or of a population; pure and uncompiled."""
    step = member_step(task)
    return members_of(task)(step) if task.is_population else step


def member_step(task: Task) -> Step:
    """The training step of a single run, or of one member of a population."""
    return make_train_step(
        task.tapped_model,
        task.tapped_teacher,
        make_objective(task.terms, task.total_steps),
        task.optimizer,
        view=task.view,
        constraint=task.constraint,
        learning_rate_shape=make_schedule(task.learning_rate_schedule, task.total_steps),
        accumulate=task.accumulate,
        ema=task.ema,
        targets=task.data.targets,
        freeze=task.freeze,
    )


def teacher_variables(task: Task) -> PyTree:
    """What the step is given: one teacher's arrays, or with `pairs` those of each member's own
    teacher.
    """
    if task.teacher is None:
        return None
    if task.teacher.pairs is None:
        return task.teacher.variables
    pairs = jnp.asarray(task.teacher.pairs)

    def choose(variables: PyTree) -> PyTree:
        return jax.tree.map(lambda leaf: leaf[pairs], variables)

    abstract = any(
        isinstance(leaf, jax.ShapeDtypeStruct) for leaf in jax.tree.leaves(task.teacher.variables)
    )
    return (
        jax.eval_shape(choose, task.teacher.variables)
        if abstract
        else choose(task.teacher.variables)
    )


def abstract_batch(task: Task) -> Batch:
    """Shapes and types of one batch of a single run, before augmentation."""
    return jax.eval_shape(lambda: kd_data.example_batch(task.data, task.batch_size))


def check(task: Task) -> None:
    """Raise a `KdError` if student, teacher, data, terms and devices do not fit, before anything is
    compiled.
    """
    check_numbers(task)
    kd_data.steps_per_epoch(len(task.data), task.batch_size)
    check_batch(task.mesh, task.batch_size, task.accumulate)
    check_whole_batch(task.terms, task.accumulate)
    check_members(task.mesh, task.members.size)
    make_objective(task.terms, task.total_steps)
    make_schedule(task.learning_rate_schedule, task.total_steps)
    batch = abstract_batch(task)
    if task.view is not None:
        batch = jax.eval_shape(task.view, rng.key(0), batch)
    with jax.set_mesh(task.mesh):
        student = check_model(task.tapped_model, batch["inputs"])
    _check_words(task, student.params)
    check_frozen(student.params, task.freeze)
    check_optimizer(task.optimizer, student.params)
    if not jnp.issubdtype(student.outputs.logits.dtype, jnp.floating):
        raise KdError(
            f"the student answers with {student.outputs.logits.dtype}, which has no gradient; "
            "answer with logits in floating point"
        )
    specs(task.sharding.student, student.params, task.mesh)
    answer = _check_teacher(task, batch)
    if "labels" in batch:
        losses = [(t.name, t.info) for t in task.terms]
        check_targets(losses, task.data.targets, task.data.num_classes, student.outputs.width)
    wide = None if answer is None else answer.width
    check_widths(student.outputs.width, wide, task.terms, "labels" in batch)
    check_positions("student", student.outputs, batch)
    if student.outputs.width < task.data.num_classes:
        raise KdError(
            f"the student answers with {student.outputs.width} classes and the data has "
            f"{task.data.num_classes}"
        )
    _check_losses(task, student.outputs, answer, batch)


def _check_words(task: Task, student: PyTree) -> None:
    if task.data.tokens is None:
        return
    words = task.data.tokens.vocabulary
    check_vocabulary(words, student, "the student")
    if task.teacher is not None:
        check_vocabulary(words, task.teacher.variables, "the teacher")


def _check_losses(task: Task, student: Outputs, teacher: Outputs | None, batch: Batch) -> None:
    """Trace what the terms own and compute, on shapes alone: what does not fit is said now."""
    objective = make_objective(task.terms, task.total_steps)
    hparams = task.members.member(0).hparams
    heads = jax.eval_shape(lambda: _heads(task, jnp.uint32(0)))
    state = (jnp.int32(0), heads, rng.key(0))
    jax.eval_shape(objective, student, teacher, batch, hparams, *state)


def _check_teacher(task: Task, batch: Batch) -> Outputs | None:
    """Shapes of what the task's teacher answers; None without a teacher."""
    teacher = task.tapped_teacher
    if teacher is None:
        if task.sharding.teacher.paths:
            raise KdError(
                "sharding.teacher.paths names parameters of a teacher and there is none; leave it "
                "out"
            )
        return None
    check_answers(
        teacher.manifest,
        task.data,
        view="" if task.view is None else getattr(task.view, "identity", None),
        without_zeros=[t.name for t in task.terms if t.info.teacher and not t.info.zeros],
    )
    check_pairs(teacher.pairs, task.members.size, jax.tree.leaves(teacher.variables))
    answer: Any = jax.eval_shape(unpaired_answer(teacher), teacher.variables, batch)
    if not isinstance(answer, Outputs):
        raise KdError(
            "a teacher's function must answer with Outputs, and this one does not; wrap: "
            "Outputs(logits)"
        )
    check_positions("teacher", answer, batch)
    teacher_shardings(teacher, teacher.variables, task.sharding.teacher, task.mesh)
    return answer
