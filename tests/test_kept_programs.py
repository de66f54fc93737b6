"""What kd compiles is kept for the next time, by the library as by the command; whoever has
settings of their own for JAX's cache keeps them.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import kd
import runs
import tiny
from kd.placement import compiled

NAMES = (compiled._FOLDER, *compiled._SMALLEST)


def settings():
    return {name: getattr(jax.config, name) for name in NAMES}


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    """JAX as it is where nobody has set anything."""
    before = settings()
    compiled._set(
        {compiled._FOLDER: None, **{name: usual for name, (usual, _) in compiled._SMALLEST.items()}}
    )
    monkeypatch.setenv("KD_CACHE_DIR", str(tmp_path / "kept"))
    jax.clear_caches()  # of this process, so that everything is compiled
    yield tmp_path / "kept" / "compiled"
    compiled._set(before)


@pytest.fixture
def hits():
    """Programs that were taken from disk."""
    seen = []

    def listen(event, **_):
        if event == "/jax/compilation_cache/cache_hits":
            seen.append(event)

    jax.monitoring.register_event_listener(listen)
    yield seen
    jax.monitoring.unregister_event_listener(listen)


def entries(folder):
    return sorted(path.name for path in folder.glob("*-cache"))


def fit():
    trained = kd.fit(tiny.DROPPING, tiny.dataset(), [kd.term("hard")], epochs=1, batch_size=16)
    return [np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(trained.params)]


def test_the_library_keeps_its_programs_and_no_others(place, hits):
    before = settings()
    first = fit()
    kept = entries(place)
    assert any(name.startswith("jit_run-") for name in kept)
    assert settings() == before
    jax.jit(lambda x: jnp.sin(x) + len(kept))(1.0)  # the caller's own
    assert entries(place) == kept
    hits.clear()
    jax.clear_caches()
    assert fit() == first
    assert len(hits) >= len(kept)
    assert entries(place) == kept


def test_settings_of_the_callers_own_win(place, tmp_path, hits):
    own = tmp_path / "own"
    mine = {compiled._FOLDER: str(own), "jax_persistent_cache_min_compile_time_secs": 0.0}
    compiled._set(mine)
    fit()
    assert entries(own)
    assert not place.exists() or not entries(place)
    assert {name: settings()[name] for name in mine} == mine
    compiled._set({compiled._FOLDER: None, "jax_persistent_cache_min_compile_time_secs": 3600.0})
    jax.clear_caches()
    fit()
    assert entries(place) == []  # nothing takes so long


def test_settings_come_back_after_an_error(place):
    before = settings()

    def broken():
        with compiled.keeping_compiled():
            assert settings()[compiled._FOLDER] == str(place)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        broken()
    assert settings() == before


def test_off_keeps_nothing(place, monkeypatch):
    monkeypatch.setenv("KD_CACHE_DIR", "off")
    fit()
    assert not place.parent.exists()


def test_a_key_keeps_nothing_of_a_run_and_makes_no_other_run_of_it(place, tmp_path):
    assert runs.train(tmp_path / "run", keep_compiled=False) == 0
    assert entries(place) == []
    jax.clear_caches()
    assert runs.train(tmp_path / "run") == 0
    assert runs.train(tmp_path / "other") == 0
    assert entries(place)
    records = [(tmp_path / name / "evaluation.json").read_bytes() for name in ("run", "other")]
    assert records[0] == records[1]
