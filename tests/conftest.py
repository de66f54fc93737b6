"""Test set-up: eight CPU devices, shapes and types of every signature checked, no silent rank
promotion.
"""

import atexit
import os
import pathlib
import shutil
import tempfile

os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["XLA_FLAGS"] = (
    f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=8".strip()
)
# What is tested is what programs compute, not how fast: compiling them takes most of the time.
os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")

if (
    "JAX_COMPILATION_CACHE_DIR" not in os.environ
):  # what one test compiled another finds, in workers and children too
    os.environ["JAX_COMPILATION_CACHE_DIR"] = tempfile.mkdtemp(prefix="kd-compiled-")
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.1"
    os.environ["JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES"] = "-1"
    atexit.register(shutil.rmtree, os.environ["JAX_COMPILATION_CACHE_DIR"], ignore_errors=True)

if "KD_CACHE_DIR" not in os.environ:  # nothing of the tests stays
    os.environ["KD_CACHE_DIR"] = tempfile.mkdtemp(prefix="kd-kept-")
    atexit.register(shutil.rmtree, os.environ["KD_CACHE_DIR"], ignore_errors=True)

import hypothesis
import jax
import jaxtyping
import numpy as np
import pytest

jaxtyping.install_import_hook("kd", "checker.check")  # before kd is imported for the first time
jax.config.update("jax_numpy_rank_promotion", "raise")
hypothesis.settings.register_profile("kd", max_examples=25, deadline=None, derandomize=True)
hypothesis.settings.load_profile("kd")


IN = os.environ.get("KD_TESTS_IN", "")
"""With ``gs`` or ``s3`` the folders of tests lie in the emulator of that kind of bucket."""


def pytest_collection_modifyitems(config, items):
    """In a bucket a test that has no folder is not run again, and one for disks says why not."""
    if not IN:
        return
    import stores

    stores.fresh(IN).is_dir()  # the first that is asked, so that a line of TensorStore's is said
    without = [item for item in items if "tmp_path" not in item.fixturenames]
    config.hook.pytest_deselected(items=without)
    items[:] = [item for item in items if "tmp_path" in item.fixturenames]
    for item in items:
        if (marker := item.get_closest_marker("disk")) is not None:
            item.add_marker(pytest.mark.skip(reason=marker.args[0]))


@pytest.fixture
def tmp_path(tmp_path: pathlib.Path) -> pathlib.Path:
    """A folder of its own for every test, where `IN` says."""
    import stores

    return stores.fresh(IN) if IN else tmp_path


@pytest.fixture
def files(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """A folder of this machine wherever `tmp_path` is: for data that NumPy writes, and code."""
    return tmp_path_factory.mktemp("files")


@pytest.fixture(scope="session")
def mnist_dir() -> str:
    """Folder that holds MNIST, prepared by TFDS in array_record form."""
    beside = pathlib.Path(__file__).resolve().parents[2] / "shared" / "tfds"
    for folder in (os.environ.get("TFDS_DATA_DIR"), beside):
        if folder and any(pathlib.Path(folder, "mnist").glob("*/*.array_record-*")):
            return str(folder)
    pytest.skip(
        "no prepared MNIST: set TFDS_DATA_DIR to a folder that holds it in array_record form"
    )


@pytest.fixture(scope="session")
def frames_dir(tmp_path_factory):
    """Windowed frames, as an alignment of speech leaves them."""
    folder, random = tmp_path_factory.mktemp("frames"), np.random.default_rng(0)
    arrays = {
        "inputs": random.normal(size=(300, 40)).astype(np.float16),
        "labels": random.integers(0, 9, size=270),
    }
    arrays = {f"test_{key}": value for key, value in {**arrays, "starts": np.arange(270)}.items()}
    np.savez(folder / "frames.npz", **arrays, window=26, num_classes=9)
    return str(folder)


@pytest.fixture(scope="session")
def text_dir(tmp_path_factory):
    """Features of sentences, as the first stage of section 5 leaves them."""
    folder, random = tmp_path_factory.mktemp("text"), np.random.default_rng(0)
    inputs = random.random(size=(300, 40)).astype(np.float32)
    np.savez(folder / "text.npz", test_inputs=inputs, test_labels=np.arange(300) % 9)
    return str(folder)


@pytest.fixture(scope="session")
def images_dir(tmp_path_factory):
    """Small images, as the first stage of section 5 on images leaves them."""
    folder, random = tmp_path_factory.mktemp("images"), np.random.default_rng(0)
    inputs = random.integers(0, 256, (300, 8, 8, 3), np.uint8)
    np.savez(folder / "images.npz", test_inputs=inputs, test_labels=np.arange(300) % 9)
    return str(folder)
