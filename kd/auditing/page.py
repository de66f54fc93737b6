"""What an audit found, for people: tables for the terminal and the page, figures, and the files of
both.
"""

from __future__ import annotations

import dataclasses
import math
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from kd.auditing import figures as audit_figures
from kd.auditing import sweep
from kd.auditing.missing import probe_title
from kd.errors import KdError
from kd.pages.report import render, svg
from kd.pages.tables import Table, plus_minus, titled
from kd.storage import BucketPath
from kd.system.records import write_json

Audit = Mapping[str, Any]
"""What `kd.auditing.measures.audit_workdirs` returns."""
_MOST_CLASSES = 20


def check_writable(folder: pathlib.Path) -> None:
    """Raise a `KdError` unless files can be written into `folder`, which need not be there yet.

    Writes nothing.
    """
    if isinstance(folder, BucketPath):  # nobody knows before something is written
        return
    nearest = next(
        path for path in (folder.absolute(), *folder.absolute().parents) if path.exists()
    )
    if not (nearest.is_dir() and os.access(nearest, os.W_OK)):
        raise KdError(
            f"cannot write into {folder}: {nearest} is no folder that can be written; choose "
            "another --out"
        )


def write_audit(audit: Audit, folder: pathlib.Path) -> pathlib.Path:
    """Write audit.json and audit.html into `folder`, and return the page's path.

    Raises a `KdError` where it cannot.
    """
    check_writable(folder)
    drawings = {name: svg(figure) for name, figure in audit_figures.figures(audit).items()}
    page, html = render(markdown(audit), drawings), folder / "audit.html"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_json(folder / "audit.json", audit)
        html.write_text(page, "utf-8")
    except OSError as error:
        raise KdError(
            f"cannot write into {folder}: {error.strerror}; choose another --out"
        ) from error
    return html


def tables(audit: Audit) -> list[Table]:
    """Every table of an audit, in the order of the page; of a sweep with a row for each setting."""
    if sweep.settings(audit):
        return [_changed(audit, table) for table in sweep.tables(audit)]
    probe = [] if audit["missing"] is None else [missing_table(audit)]
    return [
        quality_table(audit),
        agreement_table(audit),
        entropy_table(audit),
        class_table(audit),
        *probe,
    ]


def _changed(audit: Audit, table: Table) -> Table:
    title = titled(table.title, audit.get("despite_changes", ()))
    return dataclasses.replace(table, title=title)


def quality_table(audit: Audit) -> Table:
    """How good each of the two is."""
    sides = (_teachers(audit), audit["student"]["members"])
    rows = [
        [name, *(_of_each([m[key] for m in side], digits) for side in sides)]
        for name, key, digits in (
            ("errors", "errors", 0),
            ("NLL", "nll", 3),
            ("ECE", "ece", 3),
            ("Brier", "brier", 3),
        )
    ]
    rows.insert(
        1,
        [
            "error rate, %",
            *(_of_each([100 * (1 - m["accuracy"]) for m in side], 2) for side in sides),
        ],
    )
    title = titled(f"On {audit['examples']:,} examples", audit.get("despite_changes", ()))
    return Table(title, ["", _teacher_name(audit), _student_name(audit)], rows)


def agreement_table(audit: Audit) -> Table:
    """How much of the teacher is in the student."""
    members = audit["pair"]["members"]
    rows = [
        [
            f"agreement of the top {k + 1}",
            _mean(members, "agreement_at_k", k),
            _mean(members, "ordered_agreement_at_k", k),
        ]
        for k in range(len(members[0]["agreement_at_k"]))
    ]
    on_errors = [m["agreement_on_errors"] for m in members if m["agreement_on_errors"] is not None]
    whose = "its own teacher's" if _paired(audit) else f"the teacher's {audit['teacher']['errors']}"
    rows.append(
        [f"agreement on {whose} errors", plus_minus(on_errors, 3) if on_errors else "–", ""]
    )
    rows.append(["held-out KL, nats", plus_minus([m["held_out_kl"] for m in members], 4), ""])
    title = "Its own teacher in each student" if _paired(audit) else "The teacher in the student"
    return Table(title, ["", "same classes", "same order"], rows)


def entropy_table(audit: Audit) -> Table:
    """Mean entropy of the softened targets at each temperature, beside that of chance."""
    entropy = audit["entropy"]
    classes = len(audit["examples_per_class"])
    rows = [
        [
            f"{t:g}",
            f"{h:.3f}",
            plus_minus([s[i] for s in entropy["student"]], 3),
            f"{h / math.log(classes):.0%}" if classes > 1 else "–",
        ]
        for i, (t, h) in enumerate(zip(entropy["temperatures"], entropy["teacher"], strict=True))
    ]
    title = "Entropy of the softened answers, nats" + (
        ", mean of the teachers" if _paired(audit) else ""
    )
    return Table(title, ["T", "teacher", "student", "teacher, of log v"], rows)


def class_table(audit: Audit) -> Table:
    """The KL of each class and the predicted classes that add most to it; the worst classes where
    there are many.
    """
    per_class = [m["kl_per_class"] for m in audit["pair"]["members"]]
    held = [c for c, examples in enumerate(audit["examples_per_class"]) if examples]
    worst = sorted(held, key=lambda c: -sum(member[c] for member in per_class))[:_MOST_CLASSES]
    rows = [
        [
            _named(audit, c),
            str(audit["examples_per_class"][c]),
            plus_minus([member[c] for member in per_class], 4),
            _largest(audit, c),
        ]
        for c in sorted(worst)
    ]
    title = "KL(teacher || student) by class, nats" + (
        f", {_MOST_CLASSES} worst" if len(held) > len(worst) else ""
    )
    return Table(title, ["class", "examples", "KL", "largest parts (predicted class)"], rows)


def missing_table(audit: Audit) -> Table:
    """Errors at each bias offset of the missing classes, which the student should never have been
    shown.
    """
    probe = audit["missing"]
    shown = {
        "none": "as it is",
        "matched": "matched to frequency",
        "best": f"chosen on {audit['split']}",
    }
    rows = [
        [
            shown[rule],
            plus_minus([m[rule]["offset"] for m in probe["members"]], 2),
            plus_minus([m[rule]["errors"] for m in probe["members"]]),
            plus_minus([m[rule]["errors_on_classes"] for m in probe["members"]]),
        ]
        for rule in probe["members"][0]
    ]
    columns = [
        "bias",
        "offset",
        f"errors of {audit['examples']:,}",
        f"on these {probe['examples']:,}",
    ]
    return Table(probe_title(probe), columns, rows)


def markdown(audit: Audit) -> str:
    """The page in Markdown, its figures named ``figures/NAME.svg``."""
    head = [
        f"# Audit: {audit['runs']['student']['workdir']} against "
        f"{audit['runs']['teacher']['workdir']}",
        f"On the split `{audit['split']}` of `{audit['source']}`. {_who(audit)}",
    ]
    parts = _parts_of_sweep(audit) if sweep.settings(audit) else _parts(audit)
    return "\n\n".join([*head, *parts]) + "\n"


def _parts_of_sweep(audit: Audit) -> list[str]:
    shown = [part for table in tables(audit) for part in (f"## {table.title}", table.markdown())]
    return [*shown, "![Entropy against temperature](figures/entropy.svg)"]


def _parts(audit: Audit) -> list[str]:
    quality, agreement, entropy, classes, *probe = tables(audit)
    return [
        f"## {quality.title}",
        quality.markdown(),
        f"## {agreement.title}",
        agreement.markdown(),
        "Share of examples with the same k most probable classes, as sets and in the same order.",
        f"## {entropy.title}",
        "![Entropy against temperature](figures/entropy.svg)",
        entropy.markdown(),
        f"## {classes.title}",
        "![KL by true and predicted class](figures/class_kl.svg)",
        classes.markdown(),
        *([] if not probe else [f"## {probe[0].title}", _probe_note(audit), probe[0].markdown()]),
        *([] if not probe else ["![Errors against the bias offset](figures/bias.svg)"]),
    ]


def _probe_note(audit: Audit) -> str:
    probe = audit["missing"]
    if "matched" not in probe["members"][0]:
        return (
            "There is no matched offset: the teacher's training labels do not say how frequent "
            "these classes are."
        )
    return (
        f"Matched: the offset at which {probe['share']:.1%} of the student's answers on "
        f"`{probe['matched_on']}` are "
        "these classes, as frequent as they are there; no test data and no label of a single "
        "example. Chosen on "
        f"`{audit['split']}`: with the fewest errors on the very labels that judge it, as in the "
        "paper."
    )


def _who(audit: Audit) -> str:
    prints = {who: f"`{run['fingerprint']}`" for who, run in audit["runs"].items()}
    shown = f"Fingerprints: teacher {prints['teacher']}, student {prints['student']}."
    several = len(audit["student"]["members"]) > 1
    spread = " Mean ± standard deviation over the student's members." if several else ""
    if sweep.settings(audit):
        spread = " Mean ± standard deviation over the members of each setting."
    changes = "; ".join(audit.get("despite_changes", ()))
    if changes:
        spread += f" **Read although it is not what was recorded: {changes}.**"
    return shown + spread + (f" {_pairing(audit)}" if _paired(audit) else "")


def _pairing(audit: Audit) -> str:
    pairs = ", ".join(map(str, audit["teacher"]["pairs"]))
    return (
        "Each student is compared with the member of the teacher that taught it, by number from 0: "
        f"{pairs}. The teacher's own numbers are of these members, each by itself."
    )


def _paired(audit: Audit) -> bool:
    return "pairs" in audit["teacher"]


def _teachers(audit: Audit) -> Sequence[Mapping[str, Any]]:
    """The metrics of what taught: one model or ensemble, or where students are paired each of its
    members in use.
    """
    return audit["teacher"]["each"] if _paired(audit) else [audit["teacher"]]


def _of_each(values: Sequence[float], digits: int) -> str:
    return plus_minus(values, max(digits, 1) if len(values) > 1 else digits)


def _teacher_name(audit: Audit) -> str:
    members = audit["teacher"]["members"]
    if _paired(audit):
        used = len(_teachers(audit))
        return "its own teacher" if used == 1 else f"its own teacher, each of {used}"
    return "teacher" if members == 1 else f"teacher, mean of {members}"


def _student_name(audit: Audit) -> str:
    members = len(audit["student"]["members"])
    return "student" if members == 1 else f"student, {members} members"


def _mean(members: Any, key: str, k: int) -> str:
    return plus_minus([member[key][k] for member in members], 3)


def _largest(audit: Audit, of_class: int, most: int = 3) -> str:
    row = audit["class_kl"][of_class]
    order = sorted(range(len(row)), key=lambda j: -row[j])[:most]
    return ", ".join(f"{_named(audit, j)}: {row[j]:.4f}" for j in order)


def _named(audit: Audit, label: int) -> str:
    """A class by its name, where the data has names."""
    names = audit.get("class_names")
    return str(label) if names is None else names[label]
