"""Control models, trained from a teacher's own config: one population, in chunks that fit."""

from __future__ import annotations

import dataclasses
import itertools
import pathlib
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from kd.config import Spec
from kd.core.members import WHOLE
from kd.errors import KdError
from kd.placement.ambient import pinned
from kd.runs.build import build_task
from kd.runs.run import train_workdir
from kd.runs.splits import load_splits
from kd.runs.teachers import load_teacher
from kd.runs.workdir import Workdir, find
from kd.system import words
from kd.system.memory import available_memory, devices_free, size
from kd.training.program import place
from kd.training.room import kept

MOST = 250  # models of a chunk: a run that is stopped has the chunks before
_COPIES = 2  # of what a population keeps: a checkpoint is written beside it
_FIRST_SEED = 2**20  # so that nobody's own seeds are among them


@dataclasses.dataclass(frozen=True)
class Chunks:
    """How many models are trained at a time, `size`, and how often, `count`.

    All chunks are of one size, which is compiled once; so a few models more may be trained than
    were asked for.
    """

    size: int
    count: int

    @property
    def models(self) -> int:
        """Of all chunks."""
        return self.size * self.count


def train_controls(
    teacher: str | pathlib.Path,
    folder: pathlib.Path,
    models: int,
    *,
    memory: float | None = None,
    most: int = MOST,
    allow_code: str | Iterable[str] = (),
    despite_changes: bool = False,
    say: Callable[[str], None] = words.say,
) -> list[pathlib.Path]:
    """Train models as the teacher's run says, with other seeds, into work directories in `folder`,
    and return these; what is finished there is kept, and what was stopped goes on.

    Args:
      teacher: a work directory.
      folder: where the chunks go, ``controls-00000``, ...
      models: how many, at least.
      memory: bytes that a chunk may keep; by default half of what is free.
      most: models of a chunk, at most.
      allow_code: packages whose code the teacher's run may name: see `kd.config.allowed`.
      despite_changes: as in `kd.train_workdir`.
      say: is told how far it is.

    Raises:
      KdError: no such run, a population whose members differ in more than their seeds, a memory
        limit below one model, or a folder of other controls.
    """
    if models < 1:
        raise KdError(f"--train_controls must be 1 or more, got {models}; e.g. 999")
    workdir = find(teacher, allow_code)
    spec = _single(workdir)
    chunks = chunks_of(spec, models, memory=memory, most=most)
    seeds = control_seeds(workdir.spec, chunks.models)
    say(f"{chunks.models:,} controls as {workdir.path}, in {chunks.count} chunks of {chunks.size}")
    trained = []
    for number in range(chunks.count):
        part = seeds[number * chunks.size : (number + 1) * chunks.size]
        chunk = dataclasses.replace(spec, population={"seed": part})
        path = folder / f"controls-{number:05d}"
        done, begun = Workdir(path).has_evaluation, time.perf_counter()
        title = f"controls {number + 1} of {chunks.count}"
        train_workdir(chunk, path, title=title, despite_changes=despite_changes)
        seconds = time.perf_counter() - begun
        rate = "were there" if done else f"{chunks.size / seconds:.2f} models a second"
        say(f"{title}: {rate}")
        trained.append(path)
    return trained


@pinned()
def chunks_of(spec: Spec, models: int, *, memory: float | None = None, most: int = MOST) -> Chunks:
    """The largest chunks that keep no more than `memory` bytes, evened out.

    A model's share is what `kd.training.room.kept` counts of parameters, gradients, optimiser state
    and averages, twice: a checkpoint is a copy. Data and teacher are there once. Activations are
    not counted.

    Raises:
      KdError: a single model keeps more.
    """
    data, _, _ = load_splits(spec)
    pair = dataclasses.replace(spec, population={"seed": (0, 1)})
    task = build_task(pair, data, load_teacher(pair, data))
    sums = kept(task, place(task))
    shared = sums.pop("data", 0) + sums.pop("teacher", 0)
    each = _COPIES * sum(sums.values()) / 2
    room = _free(task.mesh) / 2 if memory is None else memory
    fitting = int((room - shared) // each)
    if fitting < 1:
        raise KdError(
            f"--memory_gb allows {size(room)}, and one control keeps {size(shared + each)} "
            f"({size(shared)} of them data); raise it"
        )
    count = -(-models // min(fitting, most, models))
    return Chunks(-(-models // count), count)


def control_seeds(teacher: Spec, models: int) -> tuple[int, ...]:
    """Seeds of controls: none of them is one of the teacher's."""
    columns = [teacher.population.get(name, ()) for name in ("seed", "init_seed")]
    taken = {teacher.seed, *itertools.chain(*columns)}
    free = (seed for seed in itertools.count(_FIRST_SEED) if seed not in taken)
    return tuple(itertools.islice(free, models))


def _single(workdir: Workdir) -> Spec:
    """The config of one member of a teacher. Raises a `KdError` where members are unlike."""
    spec = workdir.spec
    unlike: Sequence[str] = [name for name in spec.population if name not in WHOLE]
    if unlike or "teacher" in spec.population:
        raise KdError(
            f"{workdir.path} is a population whose members differ in {', '.join(spec.population)}; "
            "controls are trained as one model is, so name a run of one, or train them yourself"
        )
    return dataclasses.replace(spec, population={})


def _free(mesh: Any) -> float:
    devices = mesh.local_devices
    return available_memory() if devices[0].platform == "cpu" else devices_free(devices)
