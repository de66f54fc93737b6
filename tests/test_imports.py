"""Who may import whom: packages in order, one room for a heavy library, ``kd --help`` at once."""

import ast
import subprocess
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
    names = set()
    for node in nodes(ast.parse(MODULES[module].read_text()), typing=typing):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}: imports are absolute"
            for alias in node.names:
                name = f"{node.module}.{alias.name}"
                names.add(name if name in MODULES else str(node.module))
    return names


# The packages from the lowest floor to the highest. A package imports from floors below its own.
FLOORS = [
    ["shipped"],
    ["errors", "fields", "lineage", "user_code"],
    ["calling"],
    ["hints", "names", "evidence", "evals", "processes", "storage"],
    ["system"],
    ["core"],
    ["placement"],
    ["data"],
    ["models"],
    ["exporting"],
    ["teachers"],
    ["training", "config"],
    ["specialists"],
    ["runs"],
    ["pages"],
    ["auditing", "doctor", "planning", "provenance"],
    ["kd"],
    ["experiments"],
    ["cli"],
    ["configs"],
]
FLOOR = {package: number for number, floor in enumerate(FLOORS) for package in floor}
# these two bring everything together, by name and when it is asked for
FREE = {"kd", "kd.cli.main"}


def package(module):
    """``kd.core.types`` is in core, ``kd`` in kd, ``experiments.index`` in experiments."""
    first, *rest = module.split(".")
    return rest[0] if first == "kd" and rest else first


def test_every_package_has_a_floor():
    assert {package(module) for module in MODULES} == set(FLOOR)


@pytest.mark.parametrize("module", sorted(set(MODULES) - FREE))
def test_no_arrow_goes_up(module):
    """Nor to another package of the same floor."""
    home = package(module)
    mine = imports(module, typing=True) & set(MODULES)
    others = {name for name in mine if package(name) != home}
    assert {name for name in others if FLOOR[package(name)] >= FLOOR[home]} == set()


@pytest.mark.parametrize(
    "module", sorted(m for m in MODULES if package(m) in ("experiments", "configs"))
)
def test_experiments_import_packages_and_no_files_inside_them(module):
    names = {n for n in imports(module, typing=True) & set(MODULES) if n.startswith("kd.")}
    inside = {n for n in names if MODULES[n].name != "__init__.py" and n.count(".") > 1}
    assert inside == set()


def test_every_folder_is_a_package():
    """Or it would be left out of what is installed."""
    folders = {path.parent for path in (ROOT / "kd").rglob("*.py")}
    assert {folder for folder in folders if not (folder / "__init__.py").is_file()} == set()
    tracked = subprocess.run(
        ["git", "check-ignore", *map(str, (ROOT / "kd").rglob("*.py"))],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert tracked.stdout == ""


def circle(graph):
    """A node from which a path leads back to it, or None."""
    done, path = set(), set()

    def visit(node):
        if node in path:
            return node
        if node in done:
            return None
        path.add(node)
        back = next((hit for hit in map(visit, sorted(graph[node])) if hit), None)
        path.discard(node)
        done.add(node)
        return back

    return next((hit for hit in map(visit, sorted(graph)) if hit), None)


def test_no_circle_of_files():
    """An ``__init__`` gathers its package, and files of the package do not import it."""
    files = {m for m, path in MODULES.items() if path.name != "__init__.py"}
    assert circle({module: imports(module) & files for module in files}) is None
    assert circle({"a": {"b"}, "b": {"a"}}) == "a"  # the law is about something


def test_flat_rooms_are_the_lowest():
    """Whatever lies flat in ``kd/`` is small and on the first four floors."""
    flat = {path.stem for path in (ROOT / "kd").glob("*.py")} - {"__init__"}
    assert flat <= {name for floor in FLOORS[:4] for name in floor}


HOMES = {
    "orbax": ("kd.training.checkpoint",),
    "tensorstore": ("kd.storage.store",),
    "jax._src": ("kd.processes.group", "kd.processes.launcher"),
    "tensorflow_datasets": ("kd.data.",),
    "grain": ("kd.data.pipeline",),
    "sklearn": ("kd.evals.binary", "kd.specialists.clusters", "experiments."),
    "flax": ("kd.models.",),
    "safetensors": ("kd.exporting.",),
    "ml_collections": ("kd.config.", "kd.cli.main", "configs."),
    "tensorflow": (),
    "matplotlib": ("kd.pages.report", "experiments."),
    "rich": (
        "kd.training.writers",
        "kd.pages.tables",
        "kd.cli.main",
        "kd.pages.report",
        "kd.pages.reproduce",
    ),
    "jinja2": ("kd.pages.report",),
    "tensorboardX": ("kd.training.sinks.tensorboard",),
    "wandb": ("kd.training.sinks.weights_and_biases",),
    "mlflow": ("kd.training.sinks.ml_flow",),
    "prometheus_client": ("kd.training.sinks.prometheus",),
    "PIL": ("kd.data.",),
    "soundfile": ("kd.data.audio.",),
    "kaldi_native_fbank": ("kd.data.audio.",),
    "rapidfuzz": ("kd.evals.",),
    "libtpu": (),  # only ever found and loaded by JAX, in a worker
}


def importers(library):
    return {
        module
        for module in MODULES
        for name in imports(module)
        if name == library or name.startswith(f"{library}.")
    }


@pytest.mark.parametrize("library", HOMES)
def test_a_heavy_library_lives_in_one_room(library):
    assert {m for m in importers(library) if not m.startswith(HOMES[library])} == set()
    if HOMES[library]:
        assert importers(library)  # the law is about something


@pytest.mark.parametrize("module", sorted(m for m in MODULES if package(m) == "core"))
def test_the_mathematics_knows_neither_numpy_nor_files(module):
    assert not imports(module) & {"numpy", "pathlib", "os", "io"}


ANSWER = ("core", "models", "teachers", "specialists")  # rooms of what answers with logits


@pytest.mark.parametrize("module", [m for m in MODULES if m.startswith("kd.")])
def test_only_who_answers_makes_outputs(module):
    if package(module) in ANSWER:
        return
    tree = ast.walk(ast.parse(MODULES[module].read_text()))
    calls = [node for node in tree if isinstance(node, ast.Call)]
    assert "Outputs" not in {ast.unparse(call.func) for call in calls}


NEEDS = {  # the mathematics in a row, and rooms that need nobody
    "kd.core.types": {"kd.core.manifest", "kd.errors"},
    "kd.core.divergences": set(),
    "kd.core.losses.logits": {"kd.core.divergences", "kd.core.types"},
    "kd.core.losses.numbers": {"kd.core.types", "kd.errors"},
    "kd.core.losses.binary": {"kd.core.losses.numbers", "kd.core.types"},
    "kd.errors": set(),
    "kd.fields": set(),
    "kd.processes.signals": set(),
    "kd.core.rng": set(),
    "kd.evidence": {"kd.errors"},
}


@pytest.mark.parametrize("module", NEEDS)
def test_what_a_room_needs(module):
    assert {name for name in imports(module) if name.startswith("kd.")} == NEEDS[module]


@pytest.mark.parametrize("module", sorted(m for m in MODULES if m.startswith("kd.core.losses")))
def test_a_loss_knows_the_mathematics_alone(module):
    foundations = {"kd.core.divergences", "kd.core.rng", "kd.core.types", "kd.errors"}
    ours = {name for name in imports(module) if name.startswith("kd.")}
    assert {name for name in ours if not name.startswith("kd.core.losses")} <= foundations


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
        "import sys, kd; assert 'jax' not in sys.modules; "
        "kd.KdError; assert 'jax' not in sys.modules; print(kd.term)"
    )
    assert "function term" in runs.python("-c", code).stdout
