"""The hashes of a run, computed again: what is the same, what differs, what cannot be computed."""

from __future__ import annotations

import hashlib
import json
import pathlib
from collections.abc import Iterable, Iterator
from typing import Any, Literal

from kd.config import fingerprint_of
from kd.errors import KdError
from kd.pages import Table
from kd.provenance.card import BOM
from kd.provenance.facts import weights_digest
from kd.runs.build import build_task
from kd.runs.first import load_init
from kd.runs.load import load_finished
from kd.runs.reading import lineage_of
from kd.runs.splits import load_splits, open_split, split_fingerprints
from kd.runs.teachers import load_teacher
from kd.runs.workdir import Workdir, find
from kd.user_code import reached

Status = Literal["same", "DIFFERS", "cannot be computed"]
Check = tuple[str, Status, str]


def verify_card(
    path: str | pathlib.Path,
    *,
    folder: pathlib.Path | None = None,
    data_dir: str | None = None,
    allow_code: str | Iterable[str] = (),
) -> list[Check]:
    """Every hash that a run recorded, computed again: what it is of, whether it is the same, why
    not. The bill of materials in `folder`, by default ``card`` of the run, is compared too.

    Raises a `KdError` where there is no finished run.
    """
    workdir = find(path, allow_code)
    owner, lineage = workdir.owner, workdir.lineage
    checks = [_compared("the fingerprint", owner["fingerprint"], fingerprint_of(owner["identity"]))]
    checks += _of_bom(workdir, folder or workdir.path / "card", allow_code)
    if lineage is None:
        return [*checks, ("lineage", "cannot be computed", "this run recorded none")]
    now = reached(lineage.code)
    for name in sorted({*lineage.code, *now}):
        checks.append(_compared(f"module {name}", lineage.code.get(name, ""), now.get(name, "")))
    for name, seen in workdir.splits.items():
        checks.append(_tried(f"split {name}", seen, lambda n=name: _split(workdir, n, data_dir)))
    return [*checks, *_of_ancestors(workdir)]


def checked_table(checks: list[Check]) -> Table:
    """A row for each hash."""
    return Table("Hashes, computed again", ["of", "it is", ""], [list(check) for check in checks])


def _of_bom(workdir: Workdir, folder: pathlib.Path, allow: str | Iterable[str]) -> list[Check]:
    file = folder / BOM
    if not file.is_file():
        return [("the trained arrays", "cannot be computed", f"no {file}; 'kd card' writes it")]
    try:
        model = json.loads(file.read_text("utf-8"))["metadata"]["component"]
        arrays = str(model["hashes"][0]["content"])
        kept = {each["name"]: each["value"] for each in model["properties"]}
        record = str(kept["kd:run_json"])
    except (ValueError, LookupError, TypeError) as error:
        raise KdError(f"{file} is damaged: {error}; write it again with 'kd card'") from error
    doors: dict[str, Any] = {"allow_code": allow, "despite_changes": True}

    def trained() -> str:
        return weights_digest(load_finished(workdir.path, "the run", **doors))

    now = hashlib.sha256((workdir.path / "run.json").read_bytes()).hexdigest()
    return [_tried("the trained arrays", arrays, trained), _compared("run.json", record, now)]


def _split(workdir: Workdir, name: str, data_dir: str | None) -> str:
    return open_split(workdir.spec, name, data_dir).fingerprint


def _of_ancestors(workdir: Workdir) -> Iterator[Check]:
    """Teachers and first weights, as a run that begins now would record them."""
    lineage, spec = workdir.lineage, workdir.spec
    assert lineage is not None
    recorded = [*lineage.taught_by, *filter(None, [lineage.init])]
    if not recorded:
        return
    try:
        data, held_out, validation = load_splits(spec)
        teacher, init = load_teacher(spec, data, despite_changes=True), load_init(spec)
        task = build_task(spec, data, teacher, init=init)
        splits = split_fingerprints(spec, data, held_out, validation)
        now = lineage_of(spec, splits, task)
    except KdError as error:
        for weights in recorded:
            yield f"weights of {weights.source}", "cannot be computed", str(error)
        return
    for was, weights in zip(recorded, [*now.taught_by, *filter(None, [now.init])], strict=True):
        yield _compared(f"weights of {was.source}", was.digest, weights.digest)


def _tried(what: str, recorded: str, compute: Any) -> Check:
    try:
        return _compared(what, recorded, compute())
    except KdError as error:
        return what, "cannot be computed", str(error)


def _compared(what: str, recorded: str, now: str) -> Check:
    if recorded == now:
        return what, "same", ""
    return what, "DIFFERS", f"was {recorded[:12] or 'not there'}, is {now[:12] or 'not there'}"
