"""Several processes of one run over loopback:
``python tests/processes.py WHAT COORDINATOR COUNT INDEX ARGUMENT``.

As a module: `together` starts them all with a function of this file, and waits.
"""

import contextlib
import os
import socket
import subprocess
import sys
import time

import runs
import stores


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


def launch(what, argument="", count=2, devices=2, address=None, indices=None):
    """The processes, started; each has so many devices."""
    address = address or f"127.0.0.1:{free_port()}"
    flags = f"--xla_force_host_platform_device_count={devices}"
    env = {**os.environ, "JAX_PLATFORMS": "cpu", "XLA_FLAGS": flags, "PYTHONWARNINGS": "error"}
    env["PYTHONPATH"] = os.pathsep.join([str(runs.ROOT), str(runs.ROOT / "tests")])
    started = []
    for index in range(count) if indices is None else indices:
        command = [sys.executable, __file__, what, address, str(count), str(index), str(argument)]
        started.append(
            subprocess.Popen(
                command,
                cwd=runs.ROOT,
                env=env,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        )
    return started


def address():
    """Where a process 0 may listen."""
    return f"127.0.0.1:{free_port()}"


def launch_training(command, fault="none:", count=2, devices=2, address=None, indices=None):
    """``kd`` with these arguments in every process, started; the fault of `faulty.py` is that of
    process 0.
    """
    address = address or f"127.0.0.1:{free_port()}"
    started = []
    for index in range(count) if indices is None else indices:
        place = [f"--coordinator={address}", f"--num_processes={count}", f"--process_id={index}"]
        own = "none:" if index else fault
        full = [sys.executable, "tests/faulty.py", own, *map(str, command), *place]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        started.append(
            subprocess.Popen(full, cwd=runs.ROOT, env=runs.environment(devices), text=True, **pipes)
        )
    return started


def trained(command, fault="none:", **options):
    """Train in several processes and wait: (exit code, stdout, stderr) of each."""
    return ended(launch_training(command, fault, **options), seconds=120)


def ended(started, seconds=60):
    """(exit code, stdout, stderr) of each; none is left behind."""
    results = []
    try:
        for process in started:
            out, err = process.communicate(timeout=seconds)
            results.append((process.returncode, out, stores.without_its_line(err)))
    finally:
        for process in started:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
    return results


def together(what, argument="", **options):
    """Start them all with the function `what` of this file, and wait."""
    return ended(launch(what, argument, **options))


def wait_for_line(process, word):
    """Until it prints a line that begins with `word`."""
    for line in process.stdout:
        if line.startswith(word):
            return line
    raise AssertionError(process.communicate())


def agree(_):
    """Words of process 0, the same errors, one decision."""
    import signal

    from kd.errors import KdError
    from kd.processes import group
    from kd.processes.agreement import Agreement

    def refuse():
        raise KdError("no such folder; make it")

    print("first", group.first_does("load", lambda: {"who": group.index()}))
    for _ in range(2):
        try:
            group.first_does("refuse", refuse)
        except KdError as error:
            print("refused", error)
    group.check_same("run the same config", {"config": "abc"})
    try:
        group.check_same("run the same config", {"config": "abc", "data": f"d{group.index()}"})
    except KdError as error:
        print("differ", error)
    agreement, decided = Agreement(), []
    for step in range(0, 100, 10):
        time.sleep(0.1 * (1 - group.index()))
        received = signal.SIGTERM if group.index() == 1 and step >= 50 else None
        decided.append(agreement.agreed(step, received))
        if decided[-1]:
            break
    print("decided", decided)
    print("count", group.count(), group.index(), group.is_first())


def collective(steps):
    """A sum over all devices, again and again."""
    import jax
    import jax.numpy as jnp
    import numpy as np

    from kd.processes import group

    mesh = jax.make_mesh((jax.device_count(),), ("x",), axis_types=(jax.sharding.AxisType.Auto,))
    split = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("x"))
    ones = jax.make_array_from_callback(
        (jax.device_count(),), split, lambda _: np.ones(1, np.float32)
    )
    everywhere = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())
    total = jax.jit(jnp.sum, out_shardings=everywhere)
    for step in range(int(steps)):
        try:
            value = float(total(ones))
        except Exception as error:
            group.explain(error)
            raise
        if step == 1:
            print("up", value, flush=True)


def fails(who):
    """One process raises, in the midst of the others' collectives."""
    from kd.errors import KdError
    from kd.processes import group

    collective(2)
    if group.index() == int(who):
        raise KdError("the disk is full; free some space")
    collective(10**9)


def checkpoints(folder):
    """Restore what is there, then save steps 2 and 4 of a state that is split over all devices of
    all processes.
    """
    import pathlib

    import jax
    import numpy as np

    from kd.training.checkpoint import Checkpoints

    mesh = jax.make_mesh((jax.device_count(),), ("fsdp",), axis_types=(jax.sharding.AxisType.Auto,))

    def sharding(*axes):
        return jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec(*axes))

    def state(step):
        wide = jax.make_array_from_callback(
            (8,), sharding("fsdp"), lambda at: np.arange(8.0, dtype=np.float32)[at] * step
        )
        key = jax.jit(lambda: jax.random.key(step), out_shardings=sharding())()
        return {"wide": wide, "step": jax.device_put(np.int32(step), sharding()), "key": key}

    saved = Checkpoints(pathlib.Path(folder), print)
    restored = saved.restore(state(0))
    if restored is not None:
        assert restored["wide"].sharding == sharding("fsdp")
        step = int(restored["step"])
        for shard in restored["wide"].addressable_shards:
            np.testing.assert_array_equal(shard.data, np.arange(8.0)[shard.index] * step)
        assert saved.last_position == {"next": step}
        assert saved.restore()["wide"].tolist() == [i * step for i in range(8)]
    for step in (1, 2) if restored is None else (4,):
        saved.save(step, state(step), position={"next": step})
    saved.close()
    print("restored", None if restored is None else int(restored["step"]))


def copies(folder):
    """Copies of steps 2 and 4, split over two processes; process 1 loses one after the other."""
    said = []
    for lost in kept_copies(folder, "data"):
        said.append(str(lost))
    print(f"newest {said[0]}, then {said[1]}, then {said[2]}")


def whole_copies(folder):
    """The same, of a state that each process has whole."""
    print("newest", *kept_copies(folder, None))


def kept_copies(folder, axis):
    import pathlib

    import jax.numpy as jnp
    import numpy as np

    from kd.placement.mesh import MeshSpec, make_mesh, put, sharding
    from kd.processes import group
    from kd.training.local_copies import Copies

    layout = sharding(make_mesh(MeshSpec()), axis)
    example = {"x": put(jnp.zeros(8), layout)}
    mine = pathlib.Path(folder, str(group.index()))
    kept = Copies(mine, 1)
    for step in (2, 4):
        kept.save(step, {"x": put(jnp.arange(8.0) * step, layout)})
    kept.wait()
    for lost in (4, 2, None):
        step = kept.newest(example)
        yield step
        if step is not None:
            for part in kept.read(step, example)[0]["x"].addressable_shards:
                np.testing.assert_array_equal(part.data, step * np.arange(8.0)[part.index])
        if group.index() == 1 and lost is not None:
            (mine / f"{lost}.json").unlink()


def nothing(_):
    pass


def main():
    what, address, count, index, argument = sys.argv[1:]
    from kd.errors import KdError
    from kd.processes import group
    from kd.processes.watchdog import Patience

    try:
        group.start(address, int(count), int(index), timeout=float(os.environ.get("JOIN", "60")))
        with group.watch(patience=Patience(beat=0.5, lost=4.0)):
            globals()[what](argument)
    except KdError as error:
        print(f"kd: {error}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
