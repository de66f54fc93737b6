"""``kd doctor``."""

from __future__ import annotations

import argparse

from kd.processes import group
from kd.system.paths import anywhere


def doctor(args: argparse.Namespace, _overrides: list[str]) -> int:
    """Say what this machine is; 0: nothing is wrong, 2: a line for each thing that is."""
    # before anything touches a device
    group.start(args.coordinator, args.num_processes, args.process_id)
    with group.watch():
        from kd.doctor.page import examine, page, problems
        from kd.pages import show

        facts = examine(anywhere(args.workdir or "."))
        wrong = problems(facts)
        if group.is_first():
            show(page(facts))
            print("\n".join(wrong) or "nothing is wrong")
    return 2 if wrong else 0
