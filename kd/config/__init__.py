"""Configs: what a run may say of itself, how files and overrides are read, and who a run is."""

from kd.config.identity import code_names, code_of, fingerprint_of, identity, settings
from kd.config.idle import check_idle
from kd.config.init import Init, options_of, parse_init, parse_layers, with_place
from kd.config.overrides import choose, load_config
from kd.config.source import KNOWN, Source, parse
from kd.config.spec import (
    Data,
    Spec,
    base_config,
    check_options,
    from_json,
    resolve,
    to_json,
)
from kd.config.stored import damaged, stored_spec
from kd.config.teacher import Part, TeacherSpec
from kd.config.typed import beyond_defaults, build, plain
from kd.hints import check_type

__all__ = [
    "KNOWN",
    "Data",
    "Init",
    "Part",
    "Source",
    "Spec",
    "TeacherSpec",
    "base_config",
    "beyond_defaults",
    "build",
    "check_idle",
    "check_options",
    "check_type",
    "choose",
    "code_names",
    "code_of",
    "damaged",
    "fingerprint_of",
    "from_json",
    "identity",
    "load_config",
    "options_of",
    "parse",
    "parse_init",
    "parse_layers",
    "plain",
    "resolve",
    "settings",
    "stored_spec",
    "to_json",
    "with_place",
]
