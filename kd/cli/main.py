"""The command ``kd``.

Heavy imports happen inside the commands, so that ``kd --help`` answers at once.
"""

from __future__ import annotations

import argparse
import os
import pathlib
import shlex
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from kd import shipped
from kd.cli.arguments import parser
from kd.cli.doctor import doctor
from kd.cli.ending import ended, leave
from kd.cli.options import say, whole
from kd.cli.provenance import accuse, card, check_export, write_cards
from kd.cli.streams import steady
from kd.errors import KdError, unknown
from kd.system import tpu, words
from kd.system.allocator import keep_freed
from kd.system.paths import anywhere, split_file

if TYPE_CHECKING:
    from ml_collections import ConfigDict

    from kd.config import Spec
    from kd.pages import Table
    from kd.training.profile import Profile


def run() -> None:
    """The console script.

    A signal outside the training steps, which save first, ends the process at once.
    """
    for signum in (signal.SIGINT, signal.SIGTERM):
        signal.signal(signum, leave)
    steady()
    sys.exit(main())


def main(arguments: list[str] | None = None) -> int:
    """Run ``kd``; the exit code. 2: the user can mend it, and one line says how. 128 + signal:
    asked to stop.
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    known, overrides = _split(arguments)
    try:
        args = parser().parse_args(known)
        words.begin(args.command)
        keep_freed()
        tpu.leave_alone()
        if overrides and "config" not in args:
            raise KdError(f"'kd {args.command}' takes no config; remove --config.{overrides[0]}")
        return _COMMANDS[args.command](args, overrides) or 0
    except BaseException as error:
        return ended(error)
    finally:
        words.end()


def _split(arguments: list[str]) -> tuple[list[str], list[str]]:
    """Separate ``--config.key=value`` overrides from the rest."""
    prefix = "--config."
    overrides = [a.removeprefix(prefix) for a in arguments if a.startswith(prefix)]
    return [a for a in arguments if not a.startswith(prefix)], overrides


def _config(argument: str, overrides: list[str], data_dir: str | None) -> ConfigDict:
    from kd.config import load_config

    file, choice = split_file(argument)
    path = shipped.config_file(file)
    if path != file:
        say(f"kd: no {file} here; taking the one that ships with kd")
    config = load_config(path, choice, overrides)
    if data_dir is not None:
        _set_data_dir(config, data_dir)
    return config


def _run_config(args: argparse.Namespace, overrides: list[str]) -> ConfigDict:
    from kd.config.allowed import packages

    config = _config(args.config, overrides, args.data_dir)
    if args.allow_code:
        with config.unlocked(), config.ignore_type():
            config.allow_code = packages(args.allow_code)
    return config


def _set_data_dir(config: Any, data_dir: str) -> None:
    """In every run of a config, however deep."""
    from ml_collections import ConfigDict

    for key, part in config.items():
        if isinstance(part, ConfigDict):
            if key == "data":
                part.data_dir = data_dir
            _set_data_dir(part, data_dir)


def _set_source(config: Any, source: str, part: str) -> None:
    """Of all that an experiment reads: in its `part` of that name alone, or in every run."""
    from ml_collections import ConfigDict

    for key, run in config.items():
        if not isinstance(run, ConfigDict) or (part and key != part):
            continue
        data = run.get("data")
        if isinstance(data, ConfigDict):
            data.source = source
        elif not part:
            _set_source(run, source, part)


def _train(args: argparse.Namespace, overrides: list[str]) -> None:
    begun = time.perf_counter()
    from kd.processes import clocks, group

    # before anything touches a device
    group.start(args.coordinator, args.num_processes, args.process_id)
    with group.watch():
        clocks.compare(lambda line: say(f"train: {line}"))
        _train_here(args, overrides, begun)


def _train_here(args: argparse.Namespace, overrides: list[str], begun: float) -> None:
    from kd.config import resolve
    from kd.pages.profile import profile_of
    from kd.planning.here import at_peak
    from kd.processes import group
    from kd.provenance import LicenceGate
    from kd.runs.run import train_workdir

    # empty too, as an unset variable of the shell is
    if not (args.workdir or args.show_sharding or args.dry_run):
        raise KdError(
            "kd train needs --workdir=DIR, where the run lives; only --show-sharding and --dry_run "
            "do without"
        )
    if args.dry_run and args.show_sharding:
        raise KdError("--dry_run and --show-sharding each show something and end; give one of them")
    profile = profile_of(args.profile)
    spec = resolve(_run_config(args, overrides))
    if args.dry_run or args.show_sharding:
        table = _untrained(args, spec, profile)
        if group.is_first():
            _show(table)
        return
    outcome = train_workdir(
        spec,
        args.workdir,
        sinks=args.sinks,
        profile=profile,
        at_peak=at_peak,
        begun=begun,
        despite_changes=args.despite_changes,
        gate=LicenceGate(args.licence_override, say=say),
    )
    if group.is_first():
        _show_members(f"{args.workdir} on {spec.data.eval}", outcome, spec.members.settings)


def _untrained(args: argparse.Namespace, spec: Spec, profile: Profile | None) -> Table:
    """What a run is before it trains; what else was asked for is looked at too."""
    from kd.pages.dry_run import dry_run
    from kd.pages.sharding import layout
    from kd.runs.build import check_spec, planned
    from kd.runs.looks import Looks

    looks = Looks(anywhere(args.workdir or "."), "", args.sinks, profile)
    task = planned(spec) if args.show_sharding else check_spec(spec)
    looks.check(task)
    return layout(task, spec.mesh.slices) if args.show_sharding else dry_run(spec, task)


def _plan(args: argparse.Namespace, overrides: list[str]) -> int:
    from kd.pages.report import fill_file
    from kd.planning.page import as_json, check_outputs, table, tables
    from kd.planning.plan import describe_change, plan

    options = {
        "slices": args.slices,
        "price_per_chip_hour": args.price_per_chip_hour,
        **({} if args.mfu is None else {"mfu": args.mfu}),
    }
    config = _run_config(args, overrides)
    check_outputs(args.topology, args.table, args.json, args.slices)  # before minutes of compiling
    if args.table is not None:
        page, text = pathlib.Path(args.table), table(config, args.topology, say=say, **options)
        if page.exists():
            fill_file(page, "plan", text)
        else:
            page.write_text(text + "\n", "utf-8")
        print(page.resolve())
        return 0
    worst = 0
    for topology in args.topology:
        planned = plan(config, topology, say=say, **options)
        for part in tables(planned):
            _show(part)
        print(describe_change(planned))
        if args.json:
            pathlib.Path(args.json).write_text(as_json(planned) + "\n", "utf-8")
        worst = max(worst, planned.exit_code)
    return worst


def _eval(args: argparse.Namespace, overrides: list[str]) -> None:
    if (args.workdir is None) == (args.config is None):
        raise KdError("kd eval takes either --workdir=DIR, a run, or --config=FILE, a teacher's")
    if args.config is not None:
        _eval_teacher(args, overrides)
        return
    if overrides:
        raise KdError(f"a run has a config of its own; remove --config.{overrides[0]}")
    from kd.auditing.evaluate import evaluate_workdir
    from kd.runs.workdir import find

    outcome = evaluate_workdir(args.workdir, teacher=args.teacher, **_doors(args))
    spec = find(args.workdir, args.allow_code).spec
    origin = None if args.teacher is not None else spec.teacher.origin
    if origin is not None and not origin.is_model:
        say(f"eval: no agreement with {origin.text}: it is asked about training data alone")
    _show_members(f"{args.workdir} on {outcome['split']}", outcome, spec.members.settings)


def _doors(args: argparse.Namespace) -> dict[str, Any]:
    return {n: getattr(args, n) for n in ("split", "data_dir", "despite_changes", "allow_code")}


def _eval_teacher(args: argparse.Namespace, overrides: list[str]) -> None:
    from kd.auditing.evaluate import evaluate_teacher
    from kd.config import resolve

    if args.teacher is not None:
        raise KdError("--teacher is beside a run; with --config set --config.teacher.source")
    spec = resolve(_run_config(args, overrides))
    outcome = evaluate_teacher(spec, args.split, despite_changes=args.despite_changes)
    _show_members(f"the teacher of {args.config} on {outcome['split']}", outcome, ())


def _audit(args: argparse.Namespace, overrides: list[str]) -> None:
    del overrides
    from kd.auditing.measures import audit_workdirs
    from kd.auditing.page import check_writable, tables, write_audit
    from kd.runs.workdir import find

    missing = [whole("--missing_class", text) for text in args.missing_class]
    out = anywhere(args.out) if args.out else find(args.student).path / "audit"
    check_writable(out)
    audited = audit_workdirs(args.teacher, args.student, missing_classes=missing, **_doors(args))
    html = write_audit(audited, out)
    for table in tables(audited):
        _show(table)
    print(html.resolve())


def _export(args: argparse.Namespace, overrides: list[str]) -> None:
    del overrides
    from kd.runs.loading import load_whole

    trained = load_whole(args.run, allow_code=args.allow_code, despite_changes=args.despite_changes)
    if args.member is not None:
        trained = trained.member(whole("--member", args.member, "a member"))
    has_card = check_export(args)
    trained.export(args.folder, format=args.format)
    if has_card:
        write_cards(args)
    print(anywhere(args.folder).resolve())


def _experiments() -> Mapping[str, Any]:
    """The table of those that ship."""
    shipped.importable("experiments")
    import experiments

    place = pathlib.Path(experiments.__file__ or "nowhere")
    if not shipped.holds(place.resolve()):
        raise KdError(
            f"{place.parent} is another package named experiments and hides the one that ships "
            "with kd; leave its folder out of PYTHONPATH for this command"
        )
    return experiments.EXPERIMENTS


def _reproduce(args: argparse.Namespace, overrides: list[str]) -> None:
    from kd.pages.reproduce import record, reproduce

    experiments = _experiments()
    if args.name not in experiments:
        raise unknown("experiment", args.name, experiments)
    if args.record and shipped.installed():
        raise KdError(
            "--record writes into the repository; clone it, install that with 'pip install -e .', "
            "and use its kd"
        )
    experiment = experiments[args.name]
    default = str(shipped.folder() / "configs" / experiment.config)
    config = _config(args.config or default, overrides, args.data_dir)
    if args.source is not None:
        _set_source(config, args.source, experiment.data)
    folder = anywhere(args.workdir or f"runs/{args.name}")
    command = ["kd", "reproduce", args.name, *([f"--config={args.config}"] if args.config else [])]
    command += [f"--source={args.source}"] if args.source is not None else []
    command += [f"--config.{override}" for override in overrides]
    html = reproduce(args.name, experiment.run, config.to_dict(), folder, shlex.join(command))
    if args.record:
        from experiments.index import write_index

        into = shipped.folder() / "experiments" / experiment.record
        record(args.name, folder, into, experiment.whole)
        write_index()
    print(html.resolve())


def _report(args: argparse.Namespace, overrides: list[str]) -> None:
    del overrides
    from kd.pages.report import write_report

    print(write_report(anywhere(args.folder), args.allow_code).resolve())


def _list(args: argparse.Namespace, overrides: list[str]) -> None:
    del args, overrides
    from kd.pages.listing import listing

    experiments = {name: experiment.about for name, experiment in _experiments().items()}
    for title, entries in {**listing(), "experiments": experiments}.items():
        print(title)
        for name, about in entries.items():
            print(f"  {name:<22} {about}")


def _show_members(title: str, outcome: Mapping[str, Any], settings: Sequence[str]) -> None:
    from kd.pages import titled
    from kd.pages.members import members_table

    title = titled(title, outcome.get("despite_changes", ()))
    if outcome["members"]:
        _show(members_table(title, outcome["members"], settings))


def _show(table: Any) -> None:
    from kd.pages import show

    show(table)


_COMMANDS: dict[str, Callable[[argparse.Namespace, list[str]], int | None]] = {
    "train": _train,
    "plan": _plan,
    "eval": _eval,
    "audit": _audit,
    "accuse": accuse,
    "card": card,
    "export": _export,
    "reproduce": _reproduce,
    "report": _report,
    "doctor": doctor,
    "list": _list,
}
