"""What JAX compiles for kd is kept on disk, and the JAX of whoever calls kd stays as it was."""

from __future__ import annotations

import contextlib
import contextvars
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

import jax
from jax.experimental.compilation_cache import compilation_cache

from kd.system import kept

_FOLDER = "jax_compilation_cache_dir"
_SMALLEST: dict[str, tuple[Any, Any]] = {
    "jax_persistent_cache_min_compile_time_secs": (1.0, 0.0),
    "jax_persistent_cache_min_entry_size_bytes": (0, -1),
}
"""What is too small to be kept: JAX's own default, and that everything is kept."""
_kept = contextvars.ContextVar("kept", default=True)


@contextlib.contextmanager
def keeping_compiled(on: bool = True) -> Iterator[None]:
    """Programs that are compiled inside are kept on disk, or, with `on` False, are not, whatever
    is said further inside: see `kd.system.kept`.

    A folder of the caller's own, ``JAX_COMPILATION_CACHE_DIR``, stays the one that counts, and so
    do other settings of JAX's cache that are not its defaults. Outside everything is as before.
    """
    token = _kept.set(on and _kept.get())
    try:
        with _on_disk(_kept.get()):
            yield
    finally:
        _kept.reset(token)


@contextlib.contextmanager
def _on_disk(on: bool) -> Iterator[None]:
    place, now = kept.folder("compiled"), getattr(jax.config, _FOLDER)
    if place is None or now not in (None, str(place)) or (now is not None) == on:
        yield
        return
    if on and not kept.ready(place):
        yield
        return
    wanted = {_FOLDER: str(place) if on else None}
    for name, (usual, all_kept) in _SMALLEST.items():
        if on and getattr(jax.config, name) == usual:
            wanted[name] = all_kept
    before = {name: getattr(jax.config, name) for name in wanted}
    show = warnings.showwarning
    try:
        _set(wanted)
        kept.throw_away_damaged(place)
        yield
    finally:
        warnings.showwarning = show
        _set(before)


def _set(settings: Mapping[str, Any]) -> None:
    """JAX looks at them once, so it has to be told to look again."""
    for name, value in settings.items():
        jax.config.update(name, value)
    compilation_cache.reset_cache()
