"""Run or resume the MNIST experiment."""

from __future__ import annotations

import pathlib
from collections.abc import Callable, Mapping
from typing import Any

from experiments.hinton2015.mnist.measure import check, measure
from experiments.hinton2015.mnist.protocol import Protocol, make_stages
from experiments.hinton2015.parts import finished, of_this_data, plain
from kd.config import build
from kd.runs import run_stages


def run(
    config: Mapping[str, Any], folder: pathlib.Path, say: Callable[[str], None] = print
) -> dict[str, Any]:
    """Run or resume every stage, and measure: the results, as JSON will hold them.

    Raises:
      KdError: a config that is not well-formed, and what training raises.
    """
    protocol = build(Protocol, config, "config")
    config = of_this_data(config, protocol.distilled["data"])
    stages = make_stages(protocol)
    check(protocol)
    done = run_stages(stages, folder, say)
    return {
        "report": "experiments.hinton2015.mnist.page:page",
        "protocol": plain(config),
        "stages": finished(done.values()),
        **measure(protocol, done),
    }
