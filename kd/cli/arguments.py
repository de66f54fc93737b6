"""The arguments of the command ``kd``: what each of its commands takes.

Nothing heavy is imported here.
"""

from __future__ import annotations

import argparse
from typing import NoReturn

from kd.cli.options import (
    allow_code,
    data_dir,
    despite_changes,
    file,
    licence_override,
    path,
    source,
)
from kd.cli.provenance import accuse_arguments, card_arguments
from kd.errors import one_line

_OVERRIDES = (
    "any key of the config can be set with --config.key=value, e.g. "
    "--config.optim.learning_rate=0.05"
)


class Parser(argparse.ArgumentParser):
    """Refuses in one line, as everything else in kd does."""

    def error(self, message: str) -> NoReturn:
        """End with exit code 2."""
        self.exit(2, f"kd: {one_line(message)}; see '{self.prog} --help'\n")


class _Version(argparse.Action):
    """The version is looked up when it is asked for: that takes longer than all the rest here."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        import importlib.metadata

        print(f"kd {importlib.metadata.version('kd')}")
        parser.exit()


def parser() -> Parser:
    """Of the whole command; ``command`` is the name of the chosen one."""
    whole = Parser(
        prog="kd", description="Knowledge distillation in JAX and Flax.", allow_abbrev=False
    )
    whole.add_argument("--version", action=_Version, nargs=0, help="print kd's version and end")
    commands = whole.add_subparsers(dest="command", required=True, metavar="COMMAND")
    _train(
        commands.add_parser(
            "train", help="train or distil a config into a work directory", epilog=_OVERRIDES
        )
    )
    about = "whether a run fits on a topology, how fast and at what cost, before renting it"
    _plan(commands.add_parser("plan", help=about, epilog=_OVERRIDES))
    _eval(
        commands.add_parser(
            "eval", help="evaluate a finished run, and its agreement with a teacher"
        )
    )
    _audit(
        commands.add_parser(
            "audit", help="how much of a teacher is in a student, classes never shown included"
        )
    )
    about = "whether a model is closer to a teacher than models that it did not teach"
    accuse_arguments(commands.add_parser("accuse", help=about))
    about = "write a finished model as safetensors and as a program that needs no kd"
    _export(commands.add_parser("export", help=about))
    about = "a model card and a bill of materials: lineage, results, licences, hashes"
    card_arguments(commands.add_parser("card", help=about))
    _reproduce(
        commands.add_parser(
            "reproduce", help="run or resume a published experiment", epilog=_OVERRIDES
        )
    )
    report = commands.add_parser(
        "report", help="rebuild tables, figures and the HTML page from a results.json"
    )
    report.add_argument("folder", type=path, metavar="DIR", help="a folder with a results.json")
    allow_code(report)
    about = "what this machine is, and what is wrong with it: exit code 0, or 2"
    _doctor(commands.add_parser("doctor", help=about))
    commands.add_parser("list", help="models, losses, sources, experiments, a line each")
    return whole


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())


def _train(train: argparse.ArgumentParser) -> None:
    _config(train)
    train.add_argument(
        "--workdir",
        type=path,
        metavar="DIR",
        help="where the run lives; the same command resumes it",
    )
    train.add_argument(
        "--show-sharding",
        action="store_true",
        help="only print where every parameter will lie, and how large it is",
    )
    train.add_argument(
        "--dry_run",
        action="store_true",
        help="only check everything, and print how long and how large the run will be",
    )
    train.add_argument(
        "--sinks",
        type=_names,
        metavar="A,B",
        default=(),
        help="where metrics go too: tensorboard, wandb, mlflow, prometheus, or package.module:name",
    )
    train.add_argument(
        "--profile",
        metavar="FIRST:END",
        help="trace these steps for xprof and TensorBoard, and print where their time went",
    )
    licence_override(train)
    data_dir(train)
    despite_changes(train)
    allow_code(train)
    _several(train)


def _plan(plan: argparse.ArgumentParser) -> None:
    _config(plan)
    plan.add_argument(
        "--topology",
        required=True,
        action="append",
        metavar="CHIP:SHAPE",
        help="v5e:16x16, v5p:4x4x4, cpu:8, ...",
    )
    plan.add_argument(
        "--slices", type=int, default=1, metavar="N", help="so many slices of it; default: 1"
    )
    plan.add_argument(
        "--price_per_chip_hour", type=float, metavar="X", help="what a chip costs in an hour"
    )
    plan.add_argument(
        "--mfu", type=float, metavar="F", help="assumed part of the peak FLOP/s; default: 0.4"
    )
    plan.add_argument(
        "--json", type=file, metavar="FILE", help="write everything that was found there too"
    )
    plan.add_argument(
        "--table",
        type=file,
        metavar="FILE",
        help="write a Markdown table, a row for each topology, between the marks <!-- plan --> of "
        "FILE",
    )
    data_dir(plan)
    allow_code(plan)


def _eval(evaluate: argparse.ArgumentParser) -> None:
    evaluate.add_argument("--workdir", type=path, metavar="DIR", help="the run to evaluate")
    evaluate.add_argument(
        "--config",
        metavar="FILE[:ARG]",
        help="in place of a run, the teacher of this config, on config.data.eval",
    )
    evaluate.add_argument(
        "--split", metavar="SPLIT", help="default: the run's own, config.data.eval"
    )
    evaluate.add_argument(
        "--teacher", type=path, metavar="DIR", help="default: the run's own teacher"
    )
    data_dir(evaluate)
    despite_changes(evaluate)
    allow_code(evaluate)


def _audit(audit: argparse.ArgumentParser) -> None:
    audit.add_argument(
        "teacher", type=path, metavar="TEACHER", help="work directory; a population is an ensemble"
    )
    audit.add_argument(
        "student",
        type=path,
        metavar="STUDENT",
        help="work directory; of a population every member",
    )
    audit.add_argument(
        "--split", metavar="SPLIT", help="default: the student's own, config.data.eval"
    )
    audit.add_argument(
        "--missing_class",
        metavar="K",
        action="append",
        default=[],
        help="a class that it was not shown",
    )
    audit.add_argument(
        "--out",
        type=path,
        metavar="DIR",
        help="where audit.json and audit.html go; default: STUDENT/audit",
    )
    data_dir(audit)
    despite_changes(audit)
    allow_code(audit)


def _export(export: argparse.ArgumentParser) -> None:
    export.add_argument(
        "run",
        type=source,
        metavar="RUN",
        help="work directory of a finished run, a saved model, or hf:DIR of Hugging Face",
    )
    export.add_argument(
        "folder", type=path, metavar="DIR", help="where it goes; nothing there is overwritten"
    )
    export.add_argument(
        "--member", metavar="I", help="which one, from 0, where the run is a population"
    )
    export.add_argument(
        "--format",
        choices=("both", "safetensors", "stablehlo", "hf"),
        default="both",
        help="its arrays, its program from stored inputs to logits, or both; or, of a network that "
        "Hugging Face has, a folder as transformers reads it; default: both",
    )
    export.add_argument(
        "--licence",
        metavar="SPDX",
        default="",
        help="the licence it is exported under; default: one that goes with it, or none is said",
    )
    licence_override(export)
    despite_changes(export)
    allow_code(export)


def _reproduce(reproduce: argparse.ArgumentParser) -> None:
    reproduce.add_argument("name", metavar="NAME", help="see 'kd list'")
    reproduce.add_argument("--config", metavar="FILE[:ARG]", help="default: the experiment's own")
    reproduce.add_argument("--workdir", type=path, metavar="DIR", help="default: runs/NAME")
    reproduce.add_argument(
        "--record",
        action="store_true",
        help="also write the result into experiments/ and README.md",
    )
    reproduce.add_argument(
        "--source",
        metavar="SOURCE",
        help="the data of all its runs, in place of its own, e.g. tfds:fashion_mnist",
    )
    data_dir(reproduce)


def _doctor(doctor: argparse.ArgumentParser) -> None:
    doctor.add_argument(
        "--workdir",
        type=file,
        metavar="DIR",
        default=".",
        help="where runs will be written; default: here",
    )
    _several(doctor)


def _several(command: argparse.ArgumentParser) -> None:
    several = command.add_argument_group(
        "several processes", "Slurm, Open MPI, Cloud TPU and GKE say these themselves"
    )
    several.add_argument("--coordinator", metavar="HOST:PORT", help="where process 0 listens")
    several.add_argument("--num_processes", type=int, metavar="N")
    several.add_argument(
        "--process_id", type=int, metavar="I", help="which of them this is, from 0"
    )


def _config(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--config", required=True, metavar="FILE[:ARG]", help="Python file with get_config(arg)"
    )
