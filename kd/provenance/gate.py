"""The licence gate: what a student inherits from all that taught it, and what stops it.

No legal advice.
"""

from __future__ import annotations

import dataclasses
import datetime
import pathlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from kd.errors import KdError
from kd.lineage import Lineage, Weights
from kd.provenance.licences import NO_ADVICE, Route, Rules, Terms, load_rules
from kd.runs.workdir import Workdir
from kd.system import words
from kd.system.paths import anywhere
from kd.system.records import read_json

FILE = "licences.json"  # of a work directory
OWN = "own"
UNKNOWN = "unknown"
_STOPS = ("ask", "refuse", UNKNOWN, "stale")


@dataclasses.dataclass(frozen=True)
class Debt:
    """What a student owes to one thing that taught it.

    `what` is the weights or data in words, `licence` what they are under, `verdict` that of the
    row about it, "unknown" where there is none, or "stale" where it was read too long ago.
    `carries` is the licence that goes with the student where it is a derivative.
    """

    what: str
    licence: str
    verdict: str
    obligation: str
    source: str
    carries: str = ""

    @property
    def stops(self) -> bool:
        """Whether somebody must decide before a student is trained."""
        return self.verdict in _STOPS

    @property
    def text(self) -> str:
        """In a line."""
        return f"{self.what} is under {self.licence} ({self.verdict}): {self.obligation}".rstrip(
            ": "
        )


@dataclasses.dataclass(frozen=True)
class LicenceGate:
    """Asked before the first step of a run: see `kd.train_workdir`. `override` is the reason to go
    on where it would stop; `rules` are those that ship, or `KD_LICENCES`, and `say` is told what is
    inherited.
    """

    override: str = ""
    rules: Rules = dataclasses.field(default_factory=load_rules)
    today: datetime.date = dataclasses.field(default_factory=datetime.date.today)
    say: Callable[[str], None] = words.say

    def __call__(
        self, lineage: Lineage, recorded: Mapping[str, Any] | None
    ) -> dict[str, Any] | None:
        """What is to be recorded of a run of that lineage: None where it owes nobody but the
        authors of its data. `recorded` is what the same run recorded before.

        Raises:
          KdError: terms that ask, refuse, are unknown or were read too long ago, and no reason to
            go on.
        """
        debts = owed(lineage, self.rules, self.today)
        if not any(debt.verdict != "notice" or debt.carries for debt in debts):
            return None
        reason = self.override or (recorded or {}).get("override", "")
        for debt in debts:
            self.say(f"inherits: {debt.text}")
        self.say(NO_ADVICE)
        check(debts, reason)
        return {"inherits": [dataclasses.asdict(debt) for debt in debts], "override": reason}


def check(debts: Sequence[Debt], override: str) -> None:
    """Raise a `KdError` where a debt stops a student and nobody gave a reason to go on."""
    stopping = [debt for debt in debts if debt.stops]
    if not stopping or override:
        return
    unknown = stopping[0].verdict == UNKNOWN
    mend = "say under which it is (teacher.licence=MIT)"
    fix = f"{mend}, or" if unknown else "read them at their source;"
    raise KdError(
        f"the licence gate stops: {stopping[0].text}; {fix} to go on record a reason with "
        f'--licence_override="REASON". {NO_ADVICE}'
    )


def check_export(debts: Sequence[Debt], licence: str, override: str) -> str:
    """The licence under which a student may be exported; "" where nobody says one.

    Raises:
      KdError: terms that stop it, or go with it while `licence` is another, and no reason to go on.
    """
    check(debts, override)
    carried = [debt for debt in debts if debt.carries]
    for debt in carried:
        if licence and licence.lower() != debt.carries.lower() and not override:
            raise KdError(
                f"the licence gate stops an export as {licence}: {debt.text}; leave --licence out, "
                f'or record a reason with --licence_override="REASON". {NO_ADVICE}'
            )
    return licence or (carried[0].carries if carried else "")


def owed(
    lineage: Lineage, rules: Rules, today: datetime.date, above: tuple[str, ...] = ()
) -> list[Debt]:
    """What a run of that lineage inherits, through every teacher, first weights and data set."""
    debts = [
        debt for data in lineage.data for debt in _of_data(data.source, data.licence, rules, today)
    ]
    weights = [*lineage.taught_by, *filter(None, [lineage.init])]
    debts += [debt for source in weights for debt in _of_weights(source, rules, today, above)]
    return list(dict.fromkeys(debts))


def debts_of(workdir: Workdir, rules: Rules, today: datetime.date) -> list[Debt]:
    """What a run inherits: by its lineage now, and what it recorded when it began."""
    lineage, recorded = workdir.lineage, workdir.read(FILE)
    now = [] if lineage is None else owed(lineage, rules, today, (str(workdir.path.resolve()),))
    before = [Debt(**debt) for debt in (recorded or {}).get("inherits", ())]
    seen = {(debt.what, debt.licence) for debt in now}
    return [*now, *(debt for debt in before if (debt.what, debt.licence) not in seen)]


def override_of(workdir: Workdir) -> str:
    """The reason that a run recorded to go on; "" without one."""
    return str((workdir.read(FILE) or {}).get("override", ""))


def _of_data(source: str, licence: str, rules: Rules, today: datetime.date) -> Iterator[Debt]:
    """Data of one's own owes nothing; the rows know some public sets by name."""
    row = rules.of(source, "data") if licence == OWN else None
    if row is not None:
        # whether its row was read lately stops nobody: the data is there already
        yield Debt(
            f"data {source}", row.licence or "its terms", row.verdict, row.obligation, row.source
        )
    elif licence != OWN:
        yield _debt(f"data {source}", licence, rules, today, ("weights", "data"))


def _of_weights(
    weights: Weights, rules: Rules, today: datetime.date, above: tuple[str, ...]
) -> Iterator[Debt]:
    scheme, _, place = weights.source.partition(":")
    licence = weights.licence
    if licence == OWN and scheme in ("hf", "weights"):  # from outside: nobody said whose
        licence = (card_licence(anywhere(place)) if scheme == "hf" else "") or UNKNOWN
    if licence != OWN:
        yield _debt(weights.name, licence, rules, today, ("weights", "service"))
        return
    if scheme == "run" and place not in above and (anywhere(place) / "run.json").is_file():
        workdir = Workdir(anywhere(place))
        yield from debts_of(workdir, rules, today)


def _debt(
    what: str, licence: str, rules: Rules, today: datetime.date, routes: tuple[Route, ...]
) -> Debt:
    row = rules.of(licence, *routes)
    if row is None:
        told = "nobody says whose it is" if licence == UNKNOWN else "no row knows these terms"
        return Debt(what, licence, UNKNOWN, told, "")
    carries = (row.licence or licence) if row.verdict == "derivative" else ""
    return Debt(what, licence, _verdict(row, rules, today), row.obligation, row.source, carries)


def _verdict(row: Terms, rules: Rules, today: datetime.date) -> str:
    return "stale" if rules.stale(row, today) and row.verdict != "refuse" else row.verdict


def card_licence(folder: pathlib.Path) -> str:
    """The licence that a model card, README.md, names in its front matter; "" without one."""
    file = folder / "README.md"
    if not file.is_file():
        return ""
    lines = file.read_text("utf-8", errors="replace").splitlines()
    if not lines or lines[0].strip() != "---":
        return ""
    told: dict[str, str] = {}
    for line in lines[1:]:
        if line.strip() == "---":
            break
        key, colon, value = line.partition(":")
        if colon and key in ("license", "license_name"):
            told[key] = value.strip().strip("'\"")
    licence = told.get("license", "")
    return told.get("license_name", licence) if licence == "other" else licence


def saved_debts(folder: pathlib.Path, rules: Rules, today: datetime.date) -> list[Debt]:
    """What a model that was saved in a folder inherits, by its config.json."""
    told = read_json(folder / "config.json", "save that model again").get("lineage")
    return [] if told is None else owed(Lineage.from_json(told), rules, today)
