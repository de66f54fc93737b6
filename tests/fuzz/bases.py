"""The finished runs that cases read, copy and damage; nobody may change them themselves."""

import contextlib
import io
import pathlib
import tempfile

from fuzz.commands import train
from fuzz.oracle import evaluated


@contextlib.contextmanager
def made():
    """Paths by name, what ``kd eval`` says of each by "name: eval", and evaluations by
    fingerprints.
    """
    with tempfile.TemporaryDirectory(prefix="kd-fuzz-bases-") as scratch, contextlib.chdir(scratch):
        bases, recorded = {}, {}
        for name in ("hard", "distilled", "population"):
            words = train(bases, "" if name == "hard" else name, checkpoint_epochs=3)
            _said(words)
            bases[f"{name}: eval"] = _said(["eval", "--workdir=run"])
            bases[name] = str(pathlib.Path("run").rename(name).resolve())
            recorded |= evaluated(pathlib.Path(name))
        yield bases, recorded


def _said(words):
    from kd.cli.main import main

    out = io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(io.StringIO()):
        assert main([str(word) for word in words]) == 0
    return out.getvalue()
