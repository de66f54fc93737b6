"""The code that a run rests on: the modules that its names reach, each by the hash of what it says.

A module counts by its statements: comments, docstrings and layout change nothing. Of its imports
the names count and where they come from, in any order; what comes from kd counts by its name alone,
so that kd's own modules may move. Nothing is imported here, and nothing is run.
"""

from __future__ import annotations

import ast
import functools
import hashlib
import pathlib
import sys
import sysconfig
from collections.abc import Iterable, Iterator
from importlib.machinery import ModuleSpec
from typing import Any

from kd import shipped

Import = tuple[str, str, str | None]
"""Where a name comes from, the name ("" for the module itself), and what it is called here."""


def reached(modules: Iterable[str]) -> dict[str, str]:
    """The hash of each of these modules, and of every module of the user's own that they import.

    A module is the user's own unless it belongs to kd, to Python, or to an installed package. The
    imports are followed from module to module, those inside functions too. A module that is not
    there has no hash.
    """
    hashes: dict[str, str] = {}
    waiting = sorted(set(modules))
    while waiting:
        module = waiting.pop()
        origin = None if module in hashes else _origin(module)
        if origin is None:
            continue
        hashes[module], imports = _read(origin.read_bytes(), _package(module, origin))
        waiting += [name for name in _modules(imports) if _is_own(name)]
    return dict(sorted(hashes.items()))


@functools.lru_cache(maxsize=256)
def _read(source: bytes, package: str) -> tuple[str, tuple[Import, ...]]:
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError):  # an extension module: its bytes are what it says
        return hashlib.sha256(source).hexdigest()[:12], ()
    imports = tuple(sorted({*_imports(tree, package)}, key=str))
    named = [
        ("kd", name, alias) if _of_kd(of) else (of, name, alias) for of, name, alias in imports
    ]
    text = repr((sorted(set(named), key=str), _said(tree)))
    return hashlib.sha256(text.encode()).hexdigest()[:12], imports


def _said(node: Any) -> Any:
    """A syntax tree as tuples that are the same in every version of Python: empty fields and parts
    of an f-string, and the prefix u, which come and go between them, are left out.
    """
    if isinstance(node, ast.JoinedStr):
        return "JoinedStr", [_said(part) for part in _parts(node)]
    if isinstance(node, ast.AST):
        fields = [(name, _said(value)) for name, value in ast.iter_fields(node) if name != "kind"]
        return type(node).__name__, *((name, said) for name, said in fields if said not in ("", []))
    if isinstance(node, list):
        return [_said(part) for part in node if not _says_nothing(part)]
    return "" if node is None else repr(node)


def _says_nothing(node: Any) -> bool:
    text = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    return text or isinstance(node, (ast.Import, ast.ImportFrom))


def _parts(node: ast.JoinedStr) -> list[ast.expr]:
    return [part for part in node.values if not (isinstance(part, ast.Constant) and not part.value)]


def _imports(tree: ast.AST, package: str) -> Iterator[Import]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, "", alias.asname) for alias in node.names)
        if isinstance(node, ast.ImportFrom):
            parents = package.split(".")[: len(package.split(".")) - node.level + 1]
            start = parents if node.level else []
            of = ".".join([*start, *([node.module] if node.module else [])])
            yield from ((of, alias.name, alias.asname) for alias in node.names)


def _modules(imports: Iterable[Import]) -> Iterator[str]:
    """The modules that imports load. ``from a import b`` is of ``a.b`` where that is a module."""
    for of, name, alias in imports:
        parts = of.split(".")
        if name:
            yield f"{of}.{name}" if _is_own(of) and _origin(f"{of}.{name}") is not None else of
        elif alias:
            yield of
        else:  # `import a.b` gives the name a
            yield from (".".join(parts[:end]) for end in range(1, len(parts) + 1))


def _of_kd(module: str) -> bool:
    return module.partition(".")[0] == "kd"


def _is_own(module: str) -> bool:
    if _of_kd(module):
        return False
    spec = _spec(module)
    if spec is None:
        return False
    places = [spec.origin] if spec.has_location else (spec.submodule_search_locations or [])
    return bool(places) and not any(is_installed(pathlib.Path(str(place))) for place in places)


def is_installed(path: pathlib.Path) -> bool:
    """Whether a file is Python's own, or of an installed package."""
    path = path.resolve()
    if shipped.holds(path):  # an experiment is the same one, whether kd is installed or cloned
        return False
    if {"site-packages", "dist-packages"} & set(path.parts):
        return True
    return any(path.is_relative_to(sysconfig.get_path(name)) for name in ("stdlib", "platstdlib"))


def _origin(module: str) -> pathlib.Path | None:
    spec = _spec(module)
    if spec is None or not spec.has_location or spec.origin is None:
        return None
    path = pathlib.Path(spec.origin)
    return path if path.is_file() else None


def _spec(module: str) -> ModuleSpec | None:
    """Where a module is, as an import would find it, without importing its packages."""
    path, spec = None, None
    parts = module.split(".")
    for end in range(1, len(parts) + 1):
        spec = _search(".".join(parts[:end]), path)
        if spec is None or (end < len(parts) and spec.submodule_search_locations is None):
            return None
        path = spec.submodule_search_locations
    return spec


def _search(name: str, path: Any) -> ModuleSpec | None:
    finders = (getattr(finder, "find_spec", None) for finder in sys.meta_path)
    specs = (find(name, path, None) for find in finders if find is not None)
    return next((spec for spec in specs if spec is not None), None)


def _package(module: str, origin: pathlib.Path) -> str:
    return module if origin.stem == "__init__" else module.rpartition(".")[0]
