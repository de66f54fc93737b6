"""The finished runs and files that cases read, copy and damage; nobody may change them."""

import contextlib
import io
import pathlib
import tempfile

from fuzz import doors
from fuzz.commands import train
from fuzz.oracle import evaluated

RUNS = {"hard": "", "distilled": "distilled", "population": "population"}
TAUGHT = {"mixed": "several", "asked": "function"}
"""Runs that learnt through another door: which teacher of `doors.teachers` each of them has."""
NAMES = ("data", *RUNS, *TAUGHT)


@contextlib.contextmanager
def made():
    """Paths by name, what ``kd eval`` says of each by "name: eval", and evaluations by
    fingerprints.
    """
    with tempfile.TemporaryDirectory(prefix="kd-fuzz-bases-") as scratch, contextlib.chdir(scratch):
        bases = {"data": doors.write(pathlib.Path("data"))}
        recorded = {}
        for name in (*RUNS, *TAUGHT):
            _said(command(name, bases))
            bases[f"{name}: eval"] = _said(["eval", "--workdir=run", doors.ALLOWED])
            bases[name] = str(pathlib.Path("run").rename(name).resolve())
            recorded |= evaluated(pathlib.Path(name))
        yield bases, recorded


def command(name, bases, **more):
    """The arguments of the ``kd train`` that makes the run `name`."""
    keys = {"checkpoint_epochs": 3, **more}
    if name in RUNS:
        return train(bases, RUNS[name], **keys)
    taught = doors.teachers(bases)[TAUGHT[name]]
    return train(bases, "distilled", **{"teacher__workdir": "none", **taught, **keys})


def _said(words):
    from kd.cli.main import main

    out = io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(io.StringIO()):
        assert main([str(word) for word in words]) == 0
    return out.getvalue()
