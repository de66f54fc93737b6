"""``kd accuse``."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from typing import Any

from kd.cli.words import whole
from kd.errors import KdError
from kd.system.paths import anywhere


def accuse(args: argparse.Namespace, _overrides: list[str]) -> None:
    """Rank a suspect among control models, which are trained first where that is asked for."""
    from kd.pages import show
    from kd.provenance.page import assumption, power_table, sentence, table, write_accusation
    from kd.provenance.workdirs import accuse_workdirs, default_folder
    from kd.runs.pretrained import checked_model

    if args.train_controls is not None:
        _train_controls(args)
    told = accuse_workdirs(
        args.suspect,
        args.teacher,
        args.controls,
        split=args.split,
        queries=None if args.queries is None else whole("--queries", args.queries, "a number"),
        access=args.access,
        statistics=args.statistic,
        level=args.level,
        member=None if args.member is None else whole("--member", args.member, "a member"),
        model=checked_model(_mapping(args.model)),
        data_dir=args.data_dir,
        despite_changes=args.despite_changes,
        allow_code=args.allow_code,
    )
    out = anywhere(args.out) if args.out else default_folder(args.suspect)
    html = write_accusation(told, out)
    for part in (table(told), power_table(told)):
        show(part)
    for warning in told.warnings:
        print(f"warning: {warning}")
    for against in told.against:
        print(sentence(told, against))
    print(assumption())
    print(html.resolve())


def _train_controls(args: argparse.Namespace) -> None:
    from kd.provenance.controls import train_controls

    if len(args.teacher) != 1 or len(args.controls) != 1:
        raise KdError(
            "--train_controls trains as one teacher was trained, into one folder; give one "
            "--teacher and one --controls"
        )
    models = whole("--train_controls", args.train_controls, "a number of models")
    if args.memory_gb is not None and not 0 < args.memory_gb < 1e9:
        raise KdError(f"--memory_gb must be above 0, got {args.memory_gb:g}; e.g. --memory_gb=4")
    train_controls(
        args.teacher[0].removeprefix("run:"),
        anywhere(args.controls[0]),
        models,
        memory=None if args.memory_gb is None else args.memory_gb * 1e9,
        allow_code=args.allow_code,
        despite_changes=args.despite_changes,
    )


def _mapping(text: str | None) -> Mapping[str, Any] | None:
    if text is None:
        return None
    try:
        told = json.loads(text)
    except ValueError as error:
        raise KdError(f"--model must be JSON, got '{text}': {error}") from error
    if not isinstance(told, dict):
        raise KdError(f"--model must be a mapping in JSON, got '{text}'")
    return told
