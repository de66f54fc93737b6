"""Configs: what a run may say of itself, how files and overrides are read, and who a run is."""

from kd.config.identity import fingerprint_of, identity, settings
from kd.config.overrides import choose, load_config
from kd.config.spec import (
    Data,
    Spec,
    TeacherSpec,
    base_config,
    check_options,
    from_json,
    make_terms,
    resolve,
    to_json,
)
from kd.config.typed import build, plain
from kd.hints import check_type

__all__ = [
    "Data",
    "Spec",
    "TeacherSpec",
    "base_config",
    "build",
    "check_options",
    "check_type",
    "choose",
    "fingerprint_of",
    "from_json",
    "identity",
    "load_config",
    "make_terms",
    "plain",
    "resolve",
    "settings",
    "to_json",
]
