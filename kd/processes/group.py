"""Several processes as one run: who they are, what they agree on, and what happens when one is
lost.

Alone, everything here is free: ``count() == 1`` and JAX's distributed runtime is never touched. All
words between processes go through the key-value store of JAX's coordinator, from host to host; no
device takes part.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from kd.errors import KdError
from kd.processes.launcher import Place, from_arguments, from_launcher
from kd.processes.peers import Peers
from kd.processes.relay import Relay, answers
from kd.processes.signals import Interrupted
from kd.processes.watchdog import PATIENCE, Patience, Watchdog, end_process

_JAX_PATIENCE = 300  # seconds after which JAX itself gives a process up: long after the watchdog


_group: Peers | None = None
# stays when the group has parted: what comes after is still said by process 0 alone
_place = Place("", 1, 0)


def count() -> int:
    """Number of processes of this run."""
    return _place.count


def index() -> int:
    """Which of them this is, from 0."""
    return _place.index


def is_first() -> bool:
    """Whether this is process 0: the one that writes what only one may write."""
    return index() == 0


def peers() -> Peers | None:
    """The processes of this run and what they say to each other; None alone."""
    return _group


def start(
    coordinator: str | None = None,
    num_processes: int | None = None,
    process_id: int | None = None,
    timeout: float = 300,
) -> None:
    """Join the other processes: with the three given, or as the launcher says; without either, stay
    alone.

    Understands Slurm, Open MPI, Cloud TPU and GKE. Call it before anything touches a device.

    Raises:
      KdError: the three do not fit, process 0 does not answer at HOST:PORT, or not all come within
        `timeout` seconds.
    """
    place = from_arguments(coordinator, num_processes, process_id)
    if place is None:
        place = from_launcher(os.environ, timeout)
    if place is not None and place.count > 1:
        _join(place, timeout)


def _join(place: Place, timeout: float) -> None:
    global _group, _place
    if _group is not None:
        raise KdError(
            "this process has joined the others already; call kd.processes.group.start once"
        )
    import jax
    from jax._src import distributed, xla_bridge

    if xla_bridge.backends_are_initialized():
        raise KdError(
            "the other processes must be joined before the first use of a device; start them "
            "earlier"
        )
    begun = time.monotonic()
    host, _, port = place.address.rpartition(":")
    host, relay = host.strip("[]"), None
    if place.index:
        if not answers(host, int(port), timeout):
            raise KdError(
                f"process 0 does not answer at {place.address} within {timeout:g} s; check that "
                "it runs, the address, "
                "and that the port is open"
            )
        relay = Relay(host, int(port))
    jax.config.update("jax_enable_preemption_service", False)  # it would take SIGTERM away from kd
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    _within(
        timeout - (time.monotonic() - begun),
        f"not all {place.count} processes came to {place.address} within {timeout:g} s; look for "
        "one that did not "
        "start, and start all of them again",
        lambda: jax.distributed.initialize(
            relay.address if relay else place.address,
            place.count,
            place.index,
            place.local_device_ids,
            initialization_timeout=int(timeout) + 600,  # JAX aborts the process then
            heartbeat_timeout_seconds=_JAX_PATIENCE,
            shutdown_timeout_seconds=60,
            cluster_detection_method="deactivate",
        ),
    )
    _group, _place = Peers(place, distributed.global_state.client, relay), place


def _within(seconds: float, complaint: str, function: Callable[[], None]) -> None:
    """Run what can block in C++ for ever, in a thread.

    Raises a `KdError` when it takes longer, or fails.
    """
    failed: list[BaseException] = []

    def work() -> None:
        try:
            function()
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=work, daemon=True, name="kd-join")
    thread.start()
    thread.join(max(1.0, seconds))
    if thread.is_alive():
        _abandon()
        raise KdError(complaint)
    if failed:
        raise KdError(f"{complaint}: {' '.join(str(failed[0]).split())[:200]}") from failed[0]


def first_does(name: str, function: Callable[[], Any]) -> Any:
    """Process 0 runs `function`; every process gets its result, as JSON keeps it, or raises the
    same `KdError`.

    `name` is the same in all processes, and they come here in the same order.
    """
    if _group is None:
        return function()
    key = f"kd/first/{name}/{_group.number(name)}"
    if _group.place.index:
        outcome = json.loads(_group.wait(key))
        if "error" in outcome:
            raise KdError(outcome["error"])
        return outcome["result"]
    try:
        text = json.dumps({"result": function()})
    except KdError as error:
        _group.put(key, json.dumps({"error": str(error)}))
        raise
    except BaseException as error:
        _group.put(key, json.dumps({"error": f"process 0 failed: {type(error).__name__}: {error}"}))
        raise
    _group.put(key, text)
    return json.loads(text)["result"]


def first_judges(name: str, told: Any, judge: Callable[[list[Any]], Any]) -> Any:
    """Process 0 judges what all processes have `told`, in their order; every process gets its
    result, or raises the same `KdError`.

    What is told and the result are as JSON keeps them. `name` is as in `first_does`.
    """
    group = _group
    if group is None:
        return judge([told])
    folder = f"kd/told/{name}/{group.number(f'told {name}')}"
    group.put(f"{folder}/{group.place.index}", json.dumps(told))

    def judged() -> Any:
        return judge([json.loads(group.wait(f"{folder}/{i}")) for i in range(group.place.count)])

    return first_does(f"judge-{name}", judged)


def check_same(what: str, values: Mapping[str, str]) -> None:
    """Raise a `KdError`, in every process, unless all processes have the same `values`; it shows
    who has which.
    """
    if _group is None:
        return
    hosts = _group.hosts

    def compare(of_each: list[dict[str, str]]) -> None:
        if difference := differences(of_each, hosts):
            raise KdError(
                f"the processes do not {what}: {difference}; start all of them with the same "
                "command and data"
            )

    first_judges(f"same-{what}", dict(values), compare)


def differences(of_each: list[dict[str, str]], hosts: list[str]) -> str:
    """Each key on which the processes differ, with its values and who has them; empty if there is
    none.
    """
    parts = []
    for key in sorted({key for values in of_each for key in values}):
        who: dict[str, list[int]] = {}
        for i, values in enumerate(of_each):
            who.setdefault(values.get(key, "missing"), []).append(i)
        if len(who) > 1:
            shown = [f"{value} on {_named(those, hosts)}" for value, those in who.items()]
            parts.append(f"{key} is {' and '.join(shown)}")
    return ", ".join(parts)


def _named(those: list[int], hosts: list[str]) -> str:
    names = [f"{i} ({hosts[i]})" for i in those[:4]] + (["..."] if len(those) > 4 else [])
    return f"process{'es' if len(those) > 1 else ''} {', '.join(names)}"


@contextlib.contextmanager
def watch(
    say: Callable[[str], None] | None = None, patience: Patience = PATIENCE
) -> Iterator[None]:
    """While inside, a process that is lost or fails ends all others: one line that names it, exit
    code 75.

    Put everything after `start` inside: on leaving, it waits for the others, so that none takes an
    early end for a loss. `say` gets that last line instead of stderr.
    """
    if _group is None:
        yield
        return
    group = _group
    broken = None if group.relay is None else group.relay.broken
    end = functools.partial(end_process, say=say)
    dog = group.dog = Watchdog(
        group, index(), group.hosts, patience=patience, broken=broken, end=end
    )
    try:
        yield
    except Interrupted:  # all of them stop, after the same step
        _leave_together(group, dog)
        raise
    except BaseException as error:
        if type(error).__name__ == "JaxRuntimeError" or "Gloo" in str(
            error
        ):  # a collective of any part of the program
            explain(error)
        dog.leave(f"failed ({type(error).__name__}: {' '.join(str(error).split())[:300]})")
        if is_first():
            dog.wait_for_others(4 * patience.beat)
        _abandon()
        raise
    _leave_together(group, dog)


def _leave_together(group: Peers, dog: Watchdog) -> None:
    """Everyone waits for everyone, then JAX's own shutdown."""
    global _group
    group.put(f"kd/done/{group.place.index}", "done")
    for i in range(group.place.count):
        group.wait(f"kd/done/{i}")
    dog.leave()
    if is_first():
        dog.wait_for_others(10)
    dog.stop()
    import jax

    jax.distributed.shutdown()
    _group = None


_abandoned: list[Any] = []


def _abandon() -> None:
    """Leave without the others: JAX would wait for them for minutes, or complain in C++."""
    global _group
    from jax._src import distributed

    state = distributed.global_state
    _abandoned.extend([state.client, state.service])
    _keep_for_ever(_abandoned)
    state.client = state.service = _group = None


def _keep_for_ever(what: object) -> None:
    import ctypes

    # no destructor, not even at the end of the interpreter
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(what))


def explain(error: BaseException) -> None:
    """Call it with what a collective raised: if another process is lost, the watchdog names it and
    ends this one.

    Returns when all others are alive after all, so that the caller raises its own error.
    """
    if _group is not None and not isinstance(error, (KdError, Interrupted)):
        _group.wait_for_watchdog()
