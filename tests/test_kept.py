"""What is kept on disk comes back as it was, or not at all; and it does not grow for ever."""

import os
import pathlib
import subprocess
import sys
import warnings

import numpy as np
import pytest

import runs
from kd.system import kept

ARRAYS = {"inputs": np.arange(600, dtype=np.uint8).reshape(6, 100), "labels": np.arange(6)}


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    monkeypatch.setenv("KD_CACHE_DIR", str(tmp_path / "kept"))
    return tmp_path / "kept"


def test_what_was_kept_comes_back():
    assert kept.read("data", "a") is None
    kept.write("data", "a", ARRAYS)
    again = kept.read("data", "a")
    assert {name: array.tolist() for name, array in again.items()} == {
        name: array.tolist() for name, array in ARRAYS.items()
    }
    assert {name: array.dtype for name, array in again.items()} == {
        name: array.dtype for name, array in ARRAYS.items()
    }
    assert kept.read("answers", "a") is None
    assert kept.read("data", "b") is None


@pytest.mark.parametrize("name", ["inputs.npy", "labels.npy", "sums.json"])
@pytest.mark.parametrize("harm", ["flip", "cut", "gone"])
def test_a_damaged_entry_is_thrown_away(name, harm):
    rng = np.random.default_rng(len(name))
    for _ in range(10):
        kept.write("data", "a", ARRAYS)
        path = kept.folder("data") / "a" / name
        content = bytearray(path.read_bytes())
        position = int(rng.integers(len(content)))
        content[position] ^= 1 << int(rng.integers(8))
        damaged = {"flip": content, "cut": content[:position], "gone": None}[harm]
        path.unlink()
        if damaged is not None:
            path.write_bytes(damaged)
        assert kept.read("data", "a") is None
        assert not path.parent.exists()


def test_nothing_is_kept_where_that_is_asked_for(monkeypatch, place):
    monkeypatch.setenv("KD_CACHE_DIR", "off")
    kept.write("data", "a", ARRAYS)
    assert kept.read("data", "a") is None
    assert not place.exists()


def test_nothing_is_kept_where_nothing_can_be_written(monkeypatch, place):
    place.write_text("a file in the place of the folder")
    kept.write("data", "a", ARRAYS)
    assert kept.read("data", "a") is None


def test_what_was_unused_longest_goes_first(monkeypatch, place):
    monkeypatch.setitem(kept.LIMITS, "data", 6000)
    for number, key in enumerate("abc"):
        kept.write("data", key, ARRAYS)
        os.utime(place / "data" / key, (number, number))
    kept.read("data", "a")  # used now
    kept.trim(place / "data", 2500)
    assert sorted(path.name for path in (place / "data").iterdir()) == ["a", "c"]


def test_a_damaged_program_is_compiled_again_and_kept(tmp_path):
    """By a process of its own, in which a warning is no error."""
    code = (
        "import jax, jax.numpy as jnp; from kd.placement.ambient import pinned\n"
        "with pinned(): print(jax.jit(lambda x: jnp.sin(x) * 3)(jnp.arange(4.0)).sum())"
    )
    environment = {k: v for k, v in os.environ.items() if not k.startswith("JAX_")}
    environment |= {"KD_CACHE_DIR": str(tmp_path / "c"), "JAX_PLATFORMS": "cpu"}

    def run():
        command = [sys.executable, "-c", code]
        return subprocess.run(
            command, cwd=runs.ROOT, env=environment, capture_output=True, text=True, check=True
        )

    first = run()
    entries = sorted(pathlib.Path(tmp_path, "c", "compiled").glob("*-cache"))
    assert entries
    sizes = {entry.name: entry.stat().st_size for entry in entries}
    for entry in entries:
        entry.write_bytes(b"nothing that can be read")
    second, third = run(), run()
    assert first.stdout == second.stdout == third.stdout
    assert first.stderr == second.stderr == third.stderr == ""
    assert {e.name: e.stat().st_size for e in entries} == pytest.approx(sizes, abs=64)


def test_other_warnings_are_shown():
    shown = []
    before = warnings.showwarning
    try:
        warnings.showwarning = lambda message, *_, **__: shown.append(str(message))
        kept.throw_away_damaged(pathlib.Path("nowhere"))
        warnings.showwarning(UserWarning("something else"), UserWarning, "file", 1)
        warnings.showwarning(
            UserWarning("Error reading persistent compilation cache entry for 'jit_f': x"),
            UserWarning,
            "file",
            1,
        )
    finally:
        warnings.showwarning = before
    assert shown == ["something else"]
