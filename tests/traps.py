"""Packages for tests: one that a user wrote, and one that nobody may import."""

import contextlib
import sys
import textwrap

MINE = {
    "__init__.py": "",
    "models.py": """
        import functools
        import os

        from kd.models import mlp


        def net(classes: int, width: int = 8):
            return mlp(classes, (width,))


        narrow = functools.partial(net, width=4)
    """,
    "losses.py": """
        from kd.core.losses import LOSSES, LossInfo
        from kd.core.losses.logits import hard as theirs


        def hard(student, teacher, batch, hparams):
            return theirs(student, teacher, batch, hparams)


        info = LossInfo(hard, needs=("labels",))
        borrowed = LOSSES["hard"]
    """,
    "pages.py": """
        from kd.pages.report import Page
        from kd.pages.tables import Table


        def page(results):
            return Page(f"# {results['title']}", Table("", ["a"], []), "", "", {})
    """,
    "data.py": """
        from kd.data import load


        def digits(split, argument, data_dir):
            return load("digits", split)
    """,
}


TRAP = {"__init__.py": "def go(*_, **__):\n    return None\n"}


def packages(folder):
    """Write the package ``mine``, and ``trap``, whose import is the fault that is tested for."""
    for name, files in {"mine": MINE, "trap": TRAP}.items():
        (folder / name).mkdir(parents=True)
        for file, text in files.items():
            (folder / name / file).write_text(textwrap.dedent(text))


@contextlib.contextmanager
def importable(folder):
    """`folder` is on the path and its packages are forgotten afterwards."""
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        sys.path.remove(str(folder))
        for name in [n for n in sys.modules if n.partition(".")[0] in ("mine", "trap")]:
            del sys.modules[name]


def sprung():
    """Whether somebody imported ``trap``."""
    return "trap" in sys.modules


def strings(tree, path=()):
    """Path of every string below a JSON value."""
    if isinstance(tree, str):
        yield path
    inner = enumerate(tree) if isinstance(tree, list) else ()
    for key, value in tree.items() if isinstance(tree, dict) else inner:
        yield from strings(value, (*path, key))


def put(tree, path, value):
    """Set what lies at `path`."""
    for key in path[:-1]:
        tree = tree[key]
    tree[path[-1]] = value
