"""The page that ``kd doctor`` shows, and its verdict."""

from __future__ import annotations

import pathlib
from collections.abc import Mapping, Sequence

from kd.doctor import bucket, machine, several
from kd.doctor.facts import Asked, Check, Fact, examined
from kd.pages.tables import Table
from kd.placement.ambient import pinned
from kd.processes import group

CHECKS: Mapping[str, Check] = {
    "versions": machine.versions,
    "devices": machine.devices,
    "limits": machine.limits,
    "folder": machine.folder,
    "bucket": bucket.bucket,
    "compiled programs": machine.kept_programs,
    "network": several.network,
    "agreement": several.agreement,
    "clock": several.clock,
    "folder of the runs": several.one_folder,
}
"""Every examination, by what it is about; all processes make them together, in this order."""


@pinned()
def examine(folder: pathlib.Path) -> list[Fact]:
    """What is there, and what is wrong with it.

    Raises:
      KdError: ``JAX_PLATFORMS`` names devices that are not here.
    """
    asked = Asked(folder)
    return [fact for name, check in CHECKS.items() for fact in examined(name, check, asked)]


def page(facts: Sequence[Fact]) -> Table:
    """A line for each fact."""
    return Table("This machine", ["", ""], [[fact.name, fact.value] for fact in facts])


def problems(facts: Sequence[Fact]) -> list[str]:
    """What is wrong with this machine and with those of the other processes, a line each."""
    mine = [fact.wrong for fact in facts if fact.wrong]
    peers = group.peers()
    if peers is None:
        return mine
    told = {"wrong": mine, "versions": _versions(facts)}

    def together(of_each: list[dict[str, object]]) -> list[str]:
        lines = [
            f"process {i} ({peers.hosts[i]}): {line}"
            for i, those in enumerate(of_each)
            for line in those["wrong"]  # pyright: ignore[reportGeneralTypeIssues]
        ]
        versions = [{"versions": str(those["versions"])} for those in of_each]
        if different := group.differences(versions, peers.hosts):
            lines.append(f"{different}; install the same everywhere")
        return lines

    return group.first_judges("doctor", told, together)


def _versions(facts: Sequence[Fact]) -> str:
    return "; ".join(fact.value for fact in facts if fact.name in ("Python", "versions"))
