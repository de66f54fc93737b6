"""Code counts by what it says, with the user's modules that it imports; nothing is run to know."""

import sys
import textwrap

import pytest

from kd.config import code_names, code_of, resolve
from kd.user_code import reached

MODEL = '''
"""What it is."""
import math
from kd.models import mlp
from layers import width

def net(classes: int):
    """A model."""
    return mlp(classes, (width(),))  # small
'''


@pytest.fixture
def package(tmp_path, monkeypatch):
    """Write modules by path, and get the hashes of what ``model`` reaches."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def write(**sources):
        for name, source in sources.items():
            path = tmp_path / f"{name}.py"
            path.parent.mkdir(exist_ok=True)
            path.write_text(textwrap.dedent(source))
        return reached(["model"])

    write(layers="def width():\n    return 8\n")
    return write


SAME = {
    "a comment": MODEL.replace("# small", "# tiny"),
    "a docstring": MODEL.replace("A model.", "The model.").replace("What it is", "That"),
    "layout": MODEL.replace(
        "mlp(classes, (width(),))", "mlp(\n        classes, (width(), ),\n    )"
    ),
    "order of imports": MODEL.replace(
        "import math\nfrom kd.models import mlp", "from kd.models import mlp\nimport math"
    ),
    "a room of kd": MODEL.replace("kd.models import", "kd.core.models.mlp import"),
}
OTHER = {
    "a number": MODEL.replace("(width(),)", "(width(), 8)"),
    "a default": MODEL.replace("classes: int", "classes: int = 3"),
    "where a name comes from": MODEL.replace("import math", "import cmath as math"),
    "another name of kd": MODEL.replace("import mlp", "import vit as mlp"),
    "a name": MODEL.replace("def net", "def model"),
}


@pytest.mark.parametrize("change", SAME)
def test_what_says_the_same_has_the_same_hash(package, change):
    assert SAME[change] != MODEL
    assert package(model=MODEL) == package(model=SAME[change])


@pytest.mark.parametrize("change", OTHER)
def test_what_says_something_else_has_another_hash(package, change):
    assert OTHER[change] != MODEL
    assert package(model=MODEL)["model"] != package(model=OTHER[change])["model"]


PARTS = {
    "parts/__init__": "",
    "parts/wide": "from layers import width\n",
    "parts/near": "from .wide import width\nfrom . import nothing\n",
}
IMPORTS = {
    "from layers import width": {"layers"},
    "import layers": {"layers"},
    "import layers as l": {"layers"},
    "def f():\n    from layers import width": {"layers"},
    "from parts.wide import width": {"parts.wide", "layers"},
    "from parts import wide": {"parts.wide", "layers"},
    "from parts import nothing": {"parts"},
    "import parts.wide": {"parts", "parts.wide", "layers"},
    "from parts.near import width": {"parts.near", "parts.wide", "parts", "layers"},
    "import numpy, math, kd.errors; from flax import linen": set(),
    "import nowhere_at_all": set(),
    "from model import x": set(),
}


@pytest.mark.parametrize("line", IMPORTS)
def test_the_users_modules_are_followed_and_no_others(package, line):
    assert set(package(**PARTS, model=line)) == {"model"} | IMPORTS[line]


def test_a_change_two_imports_away_is_seen(package):
    before = package(model="from parts.wide import width\n", **PARTS)
    after = package(layers="def width():\n    return 9\n")
    assert before.keys() == after.keys()
    assert {name for name in before if before[name] != after[name]} == {"layers"}


def test_nothing_is_run(package, capfd):
    stop = "print('it ran')\nraise SystemExit\n"
    sources = {"parts/__init__": stop, "layers": stop, "model": "import layers, parts\n"}
    assert len(package(**sources)) == 3
    assert capfd.readouterr().out == ""
    assert "layers" not in sys.modules


def test_what_is_named_counts_wherever_it_is(package):
    """kd's own modules and installed ones are hashed where they are named, and not followed."""
    assert set(reached(["kd.runs.stages", "flax.linen", "nowhere_at_all"])) == {
        "kd.runs.stages",
        "flax.linen",
    }


def test_source_that_is_no_python_still_has_a_hash(package):
    first, other = package(model="def"), package(model="defg(")
    assert first["model"] != other["model"]


ODD = """
import numpy as np, os.path
from math import pi as π, tau
@np.vectorize
def f(a, /, b=1, *c, d: int = 2, e, **k) -> None:
    global x
    nonlocal_ = lambda *y: (yield)
    return {**k, 'a': [*c]}, {*c}, (1j, 0x10, None, ..., True, b'', u'b', 'a' "b")
async def g(z):
    async with z as (q, *r), z: pass
    async for i in z: await i
    return [j async for j in z if j if i]
class C(f, metaclass=type):
    x: int
    y: str = 'y'
x = 3; x @= -x ** +x // ~x; del x
t = f'a{x!r:>{x}.2f}b' 'c' f'{x=}{x:}{x:{x}{x}}' u'd' f'' f'{{}}'
try:
    assert x, 'y'
except* (OSError, ValueError) as error: raise error from None
else: x[1:2, ::3, ...] = not x if x is not None else x not in x
finally: (n := 1) < 2 <= 3
match x:
    case {'a': [1, *_], **rest} | C(y=-1) | None: pass
    case str() as s if s: pass
while x: break
else: print(x, *x, sep='', **x)
"""


def test_every_version_of_python_gives_the_same_hash(package):
    """Recorded once: the versions' syntax trees differ, the hash does not."""
    assert package(model=ODD) == {"model": "971c4fea5392"}


@pytest.mark.parametrize("term", [{"model:loss": {}}, {"mine": {"loss": "model:loss"}}])
def test_a_loss_counts_however_its_term_names_it(package, term):
    package(
        model="def loss(student, teacher, batch, hparams):\n    return student.logits[..., 0]\n"
    )
    spec = resolve({"student": {"name": "mlp"}, "objective": term, "total_steps": 1})
    assert code_names(spec) == ("model:loss",)
    assert list(code_of(spec)) == ["model"]
