"""How long a run is, and how one that is there is made longer.

A longer run is continued where each of its steps is what it would have been had it been that long
from its start; what differs in its files is put right, and the record of the shorter one is kept.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from typing import Any

from kd import data as kd_data
from kd.config import Spec
from kd.core.schedules import Schedule
from kd.errors import KdError
from kd.lineage import Shorter
from kd.runs.workdir import Workdir, is_of_other_code
from kd.storage import write_whole
from kd.training.loop import Cadence

_ANOTHER = "choose another --workdir"


def total_steps(spec: Spec, examples: int) -> int:
    """Length of the run in steps."""
    if spec.total_steps is not None:
        return spec.total_steps
    return kd_data.steps_of(spec.total_epochs or 0, examples, spec.data.batch_size)


def cadence_of(spec: Spec, examples: int) -> Cadence:
    """How often a run writes, evaluates and saves."""

    def steps(epochs: float | None) -> int | None:
        return None if epochs is None else kd_data.steps_of(epochs, examples, spec.data.batch_size)

    return Cadence(spec.log_steps, steps(spec.eval_epochs), steps(spec.checkpoint_epochs))


def lengthen(workdir: Workdir, owner: Mapping[str, Any], spec: Spec, examples: int) -> None:
    """Make the run of `workdir` the run of `owner`, which is the same but for its length; nothing
    where it is as long already.

    Raises:
      KdError: it is not longer, or its steps so far would have been others: the reason is named.
    """
    there = workdir.owner
    if there["fingerprint"] == owner["fingerprint"]:
        return
    if is_of_other_code(there["identity"], owner["identity"]):
        return  # read despite changes
    before = total_steps(workdir.spec, examples)
    _check(workdir, spec, before, examples)
    cadence = cadence_of(spec, examples)
    if _saved(workdir, before):
        _put_right(workdir, before, cadence)
    if workdir.has_evaluation:
        record = workdir.path / "evaluation.json"
        record.replace(workdir.path / f"evaluation-{before}.json")
    lineage = workdir.lineage
    if lineage is not None:
        shorter = (*lineage.before, Shorter(there["fingerprint"], before))
        owner = {**owner, "lineage": dataclasses.replace(lineage, before=shorter).to_json()}
    workdir.write("run.json", owner)


def _check(workdir: Workdir, spec: Spec, before: int, examples: int) -> None:
    now = total_steps(spec, examples)
    if now <= before:
        raise KdError(
            f"work directory {workdir.path} belongs to another run: it is {before} steps long and "
            f"this config asks for {now}; {_ANOTHER}, or ask for more"
        )
    why = f"the run in {workdir.path} cannot be made longer"
    if scheduled := _of_the_length(spec):
        raise KdError(
            f"{why}: {scheduled} depends on the length of the run, so that each of its {before} "
            f"steps would have been another; {_ANOTHER}"
        )
    if spec.patience is not None:
        raise KdError(
            f"{why}: patience={spec.patience} may end a run before its last step, and a longer one "
            f"elsewhere; {_ANOTHER}"
        )
    every = cadence_of(spec, examples).evaluate
    if spec.early_stopping is None or not _saved(workdir, before):
        return
    if every is None or before % every:
        raise KdError(
            f"{why}: early stopping has looked at its last step, {before}, and a longer run looks "
            f"every {every} steps; {_ANOTHER}"
        )


def _of_the_length(spec: Spec) -> str:
    """The first schedule that a longer run would stretch, as its key and shape; "" for none."""
    schedules = {"optim.learning_rate_schedule": spec.optim.learning_rate_schedule}
    for term in spec.terms:
        for number, schedule in term.schedules.items():
            schedules[f"objective.{term.name}.{number}_schedule"] = schedule
    for key, schedule in schedules.items():
        if schedule != Schedule():
            warming = " with a warm-up" if schedule.warmup_percent else ""
            return f"{key}={schedule.shape}{warming}"
    return ""


def _saved(workdir: Workdir, step: int) -> bool:
    return (workdir.path / "checkpoints" / "steps" / str(step)).is_dir()


def _put_right(workdir: Workdir, step: int, cadence: Cadence) -> None:
    """Take out of the metrics what was written only because the run ended at `step`.

    A line that was cut short is in the last checkpoint too, and is written when it is whole.
    """
    checkpoints = workdir.checkpoints(read_only=True)
    cut = not cadence.stops_at(step) and bool(checkpoints.position(step))
    checkpoints.close()
    evaluated = bool(cadence.evaluate) and step % (cadence.evaluate or 1) == 0
    if not workdir.metrics.exists():
        return

    def stays(text: str) -> bool:
        try:
            line = json.loads(text)
            last = line["step"] == step
        except (ValueError, TypeError, KeyError):
            return True  # a damaged line is set aside when the run goes on
        return not last or not (cut if "loss" in line else not evaluated)

    lines = workdir.metrics.read_text("utf-8", "replace").splitlines(keepends=True)
    write_whole(workdir.metrics, "".join(filter(stays, lines)))
