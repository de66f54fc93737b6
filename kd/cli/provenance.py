"""``kd accuse`` and ``kd card``."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from kd.cli.options import (
    allow_code,
    data_dir,
    despite_changes,
    licence_override,
    path,
    say,
    source,
    whole,
)
from kd.errors import KdError
from kd.system.paths import anywhere

if TYPE_CHECKING:
    from kd.provenance.facts import Facts


def accuse_arguments(accuse: argparse.ArgumentParser) -> None:
    """Those of ``kd accuse``."""
    several = {"action": "append", "default": [], "type": source}
    accuse.add_argument(
        "suspect",
        type=source,
        metavar="SUSPECT",
        help="work directory, hf:DIR, weights:FILE, or table:FILE of answers to the probe set",
    )
    accuse.add_argument(
        "--teacher", metavar="T", help="who may have taught it; may be said twice", **several
    )
    accuse.add_argument(
        "--controls",
        metavar="C",
        help="models that nobody taught: a population, a folder of several, or table:FILE",
        **several,
    )
    accuse.add_argument(
        "--train_controls",
        metavar="N",
        help="first train so many as the teacher's run says, with other seeds, into C",
    )
    accuse.add_argument(
        "--memory_gb",
        type=float,
        metavar="X",
        help="what those may keep in memory at a time; default: half of what is free",
    )
    _closeness_arguments(accuse)
    accuse.add_argument("--queries", metavar="N", help="so many examples of the probe set")
    accuse.add_argument(
        "--split", metavar="SPLIT", help="the probe set; default: the controls' config.data.eval"
    )
    accuse.add_argument(
        "--member", metavar="I", help="which model of the suspect, where it is a population"
    )
    accuse.add_argument(
        "--model",
        metavar="JSON",
        help='the network of weights:FILE, e.g. \'{"name": "resnet", "depth": 20}\'',
    )
    accuse.add_argument(
        "--out", type=path, metavar="DIR", help="where the page goes; default: SUSPECT/accusation"
    )
    data_dir(accuse)
    despite_changes(accuse)
    allow_code(accuse)


def _closeness_arguments(accuse: argparse.ArgumentParser) -> None:
    accuse.add_argument(
        "--access",
        choices=("labels", "logits"),
        help="what is seen of the suspect; default: logits where they are known",
    )
    accuse.add_argument(
        "--statistic",
        action="append",
        default=[],
        metavar="NAME",
        help="agreement, rare_agreement, agreement_on_errors, same_mistake, kl or "
        "residual_correlation; several are tried with half of the controls",
    )
    accuse.add_argument(
        "--level",
        type=float,
        default=0.01,
        metavar="A",
        help="the share of independent models that may be accused; default: 0.01",
    )


def card_arguments(card: argparse.ArgumentParser) -> None:
    """Those of ``kd card``."""
    card.add_argument("workdir", type=path, metavar="WORKDIR", help="a finished run")
    card.add_argument(
        "--out",
        type=path,
        metavar="DIR",
        help="where README.md and bom.cdx.json go; default: WORKDIR/card",
    )
    card.add_argument(
        "--verify",
        action="store_true",
        help="compute every hash again that can be, and compare; exit code 2 where one differs",
    )
    card.add_argument("--licence", metavar="SPDX", default="", help="as of kd export")
    licence_override(card)
    data_dir(card)
    despite_changes(card)
    allow_code(card)


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
        say=lambda text: say(f"kd: {text}"),
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


def card(args: argparse.Namespace, _overrides: list[str]) -> int | None:
    """Write a run's model card and bill of materials, or verify its hashes."""
    from kd.pages import show
    from kd.provenance.card import write_card
    from kd.provenance.checking import checked_table, verify_card

    folder = anywhere(args.out) if args.out else None
    if args.verify:
        told = verify_card(
            args.workdir, folder=folder, data_dir=args.data_dir, allow_code=args.allow_code
        )
        show(checked_table(told))
        return 2 if any(status == "DIFFERS" for _, status, _ in told) else None
    facts = _facts(args.workdir, args)
    for file in write_card(facts, folder or anywhere(args.workdir) / "card"):
        print(file.resolve())
    return None


def write_cards(args: argparse.Namespace) -> None:
    """The card and the bill of materials of a run, beside its export."""
    from kd.provenance.card import write_card

    facts = _facts(args.run, args)
    library = "transformers" if args.format == "hf" else "kd"
    write_card(facts, anywhere(args.folder), library)


def _facts(run: str, args: argparse.Namespace) -> Facts:
    from kd.provenance.facts import facts_of

    return facts_of(
        run,
        licence=args.licence,
        licence_override=args.licence_override,
        allow_code=args.allow_code,
        despite_changes=args.despite_changes,
    )


def check_export(args: argparse.Namespace) -> bool:
    """Whether what is exported is a run, of which there is a card. Raises a `KdError` where the
    licence gate stops it.
    """
    import datetime

    from kd.exporting.files import in_the_way
    from kd.provenance.card import BOM, CARD
    from kd.provenance.facts import allowed_licence
    from kd.provenance.gate import check_export as check
    from kd.provenance.gate import debts_of, saved_debts
    from kd.provenance.licences import load_rules
    from kd.runs.workdir import find

    if args.run.startswith(("hf:", "weights:")):  # no student: another's model, in other files
        return False
    folder, rules, today = anywhere(args.run), load_rules(), datetime.date.today()
    if (folder / "config.json").is_file():
        check(saved_debts(folder, rules, today), args.licence, args.licence_override)
        return False
    workdir = find(folder, args.allow_code)
    debts = debts_of(workdir, rules, today)
    allowed_licence(workdir, debts, args.licence, args.licence_override)
    in_the_way(anywhere(args.folder), (CARD, BOM), overwrite=False)
    return True
