"""Who may import whom: heavy libraries in one room each, the mathematics in order, ``kd --help`` at
once.
"""

import ast
import time

import pytest

import runs

ROOT = runs.ROOT
MODULES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for folder in ("kd", "experiments", "configs")
    for path in (ROOT / folder).rglob("*.py")
}


def nodes(tree, *, typing):
    """Every node, or those outside ``if TYPE_CHECKING:``."""
    for node in ast.iter_child_nodes(tree):
        if not typing and isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            continue
        yield node
        yield from nodes(node, typing=typing)


def imports(module, *, typing=False):
    """Full names of what a module imports, in functions too."""
    found = set()
    for node in nodes(ast.parse(MODULES[module].read_text()), typing=typing):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}: imports are absolute"
            for alias in node.names:
                name = f"{node.module}.{alias.name}"
                found.add(name if name in MODULES else str(node.module))
    return found


def importers(package):
    return {
        m
        for m in MODULES
        for name in imports(m)
        if name == package or name.startswith(f"{package}.")
    }


HOMES = {
    "orbax": ("kd.checkpoint",),
    "jax._src": ("kd.distributed", "kd.launcher"),
    "tensorflow_datasets": ("kd.data.",),
    "grain": ("kd.data.pipeline",),
    "sklearn": ("kd.data.",),
    "flax": ("kd.models.",),
    "ml_collections": ("kd.config.", "kd.cli", "configs."),
    "tensorflow": (),
    "matplotlib": ("kd.report", "experiments."),
    "rich": ("kd.writers", "kd.tables", "kd.cli", "kd.report", "kd.reproduce"),
    "jinja2": ("kd.report",),
    "tensorboardX": ("kd.writers",),
    "PIL": ("kd.data.",),
    "soundfile": ("kd.data.",),
    "kaldi_native_fbank": ("kd.data.",),
    "rapidfuzz": ("kd.evals.",),
    "libtpu": (),  # only ever found and loaded by JAX, in a worker
}


@pytest.mark.parametrize("package", HOMES)
def test_a_heavy_library_lives_in_one_room(package):
    assert {m for m in importers(package) if not m.startswith(HOMES[package])} == set()
    if HOMES[package]:
        assert importers(package)  # the law is about something


# From the first room to the last. A module may import from rooms before its own, and from its own.
ROOMS = [
    [
        "kd.arguments",
        "kd.disk",
        "kd.errors",
        "kd.fields",
        "kd.kept",
        "kd.launcher",
        "kd.memory",
        "kd.lineage",
        "kd.user_code",
        "kd.hints",
        "kd.launcher",
        "kd.memory",
        "kd.paths",
        "kd.registry",
        "kd.rng",
        "kd.seen",
        "kd.signals",
        "kd.ambient",
        "kd.relay",
        "kd.watchdog",
        "kd.distributed",
        "kd.mesh",
    ],
    ["kd.chips", "kd.plan_hlo", "kd.plan_count", "kd.plan_roofline", "kd.plan_candidates"],
    ["kd.manifest", "kd.types", "kd.metrics", "kd.divergences", "kd.schedules"],
    [
        "kd.losses",
        "kd.losses.logits",
        "kd.models",
        "kd.models.abstract",
        "kd.models.dense",
        "kd.models.linen",
        "kd.models.mlp",
        "kd.models.modes",
        "kd.models.supply",
        "kd.models.vit",
        "kd.state",
        "kd.teacher",
    ],
    ["kd.objective", "kd.stored"],
    ["kd.step", "kd.optim", "kd.population"],
    [m for m in MODULES if m.startswith("kd.data")],
    ["kd.limits"],
    ["kd.precision", "kd.sharding"],
    [
        "kd.answers",
        "kd.predict",
        "kd.checkpoint",
        "kd.trained",
        *[m for m in MODULES if m.startswith("kd.evals")],
    ],
    [*[m for m in MODULES if m.startswith("kd.config")], "kd.writers", "kd.evidence", "kd.tables"],
    [
        "kd.log",
        "kd.task",
        "kd.program",
        "kd.diagnosis",
        "kd.room",
        "kd.unchanged",
        "kd.train",
        "kd.workdir",
    ],
    ["kd.layout", "kd.splits", "kd.reading", "kd.build"],
    ["kd.run", "kd.report"],
    ["kd.plan_lower", "kd.plan_worker", "kd.plan", "kd.plan_page"],
    ["kd.member_page", "kd.evaluate", "kd.stages", "kd.api", "kd.missing", "kd.auditing"],
    ["kd.audit_figures", "kd.audit_page"],
    ["kd.reproduce"],
    ["kd", "kd.cli"],
    [m for m in MODULES if m.startswith("configs")],
    [m for m in MODULES if m.startswith("experiments")],
]


def test_every_module_is_in_a_room():
    assert sorted(m for room in ROOMS for m in room) == sorted(MODULES)


@pytest.mark.parametrize(
    "module", sorted(set(MODULES) - {"kd.cli", "kd"})
)  # those two bring the rooms together
def test_nothing_imports_from_a_later_room(module):
    home = {m: number for number, room in enumerate(ROOMS) for m in room}
    later = {name for name in imports(module) & set(MODULES) if home[name] > home[module]}
    assert later == set()


NEEDS = {  # the mathematics in a row, and rooms that need nobody
    "kd.manifest": {"kd.errors"},
    "kd.types": {"kd.manifest"},
    "kd.divergences": set(),
    "kd.losses.logits": {"kd.divergences", "kd.types"},
    "kd.losses": {"kd.losses.logits", "kd.types"},
    "kd.objective": {"kd.errors", "kd.losses", "kd.registry", "kd.schedules", "kd.types"},
    "kd.errors": set(),
    "kd.signals": set(),
    "kd.rng": set(),
    "kd.evidence": {"kd.errors"},
}


@pytest.mark.parametrize("module", NEEDS)
def test_what_a_room_needs(module):
    assert {name for name in imports(module) if name.startswith("kd.")} == NEEDS[module]


def test_help_answers_at_once():
    """Without JAX, in under half a second (the best of three: the machine may be busy)."""
    seconds = []
    for _ in range(3):
        start = time.perf_counter()
        done = runs.python("-m", "kd.cli", "--help")
        seconds.append(time.perf_counter() - start)
        assert done.returncode == 0
        assert "reproduce" in done.stdout
    assert min(seconds) < 0.5
    done = runs.python("-X", "importtime", "-m", "kd.cli", "--help")
    loaded = {
        line.rpartition("|")[2].strip().partition(".")[0] for line in done.stderr.splitlines()
    }
    assert "argparse" in loaded
    assert not loaded & {"jax", "numpy", "orbax", "flax", "rich", "ml_collections"}


def test_the_library_loads_what_is_used():
    code = (
        "import sys, kd; assert 'jax' not in sys.modules; kd.KdError; assert 'jax' not in "
        "sys.modules; print(kd.term)"
    )
    assert "function term" in runs.python("-c", code).stdout
