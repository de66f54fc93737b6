"""The finished run that a student's first weights are of: from where its config says."""

from __future__ import annotations

import pathlib

from kd import config as kd_config
from kd.config import Spec
from kd.runs.load import load_finished
from kd.runs.workdir import find
from kd.teachers.trained import Trained, of_member


def load_init(spec: Spec, *, despite_changes: bool = False) -> Trained | None:
    """The finished run that a student's first weights are of, or None.

    Raises:
      KdError: as `kd.runs.teachers.load_teacher`, or it has no such member.
    """
    named = kd_config.parse_init(spec.student)
    if named is None:
        return None
    # what the student's own config names was typed by the caller
    allowed = (*spec.allow_code, *kd_config.code_names(spec))
    run = load_finished(
        named[0],
        "the run of the first weights",
        allow_code=allowed,
        despite_changes=despite_changes,
    )
    return run if named[1] is None else run.member(named[1])


def init_fingerprint(spec: Spec) -> str:
    """The fingerprint of what `load_init` reads, without reading it; "" without one."""
    named = kd_config.parse_init(spec.student)
    if named is None:
        return ""
    fingerprint = find(named[0]).fingerprint
    return fingerprint if named[1] is None else of_member(fingerprint, named[1])


def init_source(spec: Spec) -> str:
    """``student.init`` with the whole path of its folder; "" without one."""
    named = kd_config.parse_init(spec.student)
    if named is None:
        return ""
    return kd_config.with_folder(spec.student, str(pathlib.Path(named[0]).resolve()))["init"]
