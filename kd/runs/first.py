"""The trained model that a student's first weights are of: from where its config says."""

from __future__ import annotations

from kd import config as kd_config
from kd.config import Init, Spec
from kd.runs.load import load_finished
from kd.runs.pretrained import load_pretrained
from kd.runs.workdir import find
from kd.system.paths import anywhere
from kd.teachers.trained import Trained, of_member


def load_init(spec: Spec, *, despite_changes: bool = False) -> Trained | None:
    """The trained model that a student's first weights are of, or None.

    Raises:
      KdError: as `kd.runs.teachers.load_teacher`, or it has no such member.
    """
    named = kd_config.parse_init(spec.student)
    if named is None:
        return None
    if named.source.scheme != "run":
        return _from_outside(spec, named)
    # what the student's own config names was typed by the caller
    allowed = (*spec.allow_code, *kd_config.code_names(spec))
    run = load_finished(
        named.source.place,
        "the run of the first weights",
        allow_code=allowed,
        despite_changes=despite_changes,
    )
    return run if named.member is None else run.member(named.member)


def _from_outside(spec: Spec, named: Init) -> Trained:
    """Arrays alone are of a network like the student, with as many classes as they have."""
    like = None
    if named.source.scheme == "weights":
        like = {key: value for key, value in spec.student.items() if key != "classes"}
    return load_pretrained(named.source, like, "config.student")


def init_fingerprint(spec: Spec) -> str:
    """The fingerprint of what `load_init` reads; of a run without reading it. "" without one."""
    named = kd_config.parse_init(spec.student)
    if named is None:
        return ""
    if named.source.scheme != "run":
        return _from_outside(spec, named).fingerprint
    fingerprint = find(named.source.place).fingerprint
    return fingerprint if named.member is None else of_member(fingerprint, named.member)


def init_source(spec: Spec) -> str:
    """``student.init`` with the whole path of its place; "" without one."""
    named = kd_config.parse_init(spec.student)
    if named is None:
        return ""
    return kd_config.with_place(spec.student, str(anywhere(named.source.place).resolve()))["init"]
