"""No file under a data directory, and none of a checkpoint, can make kd import or call anything."""

import ast
import contextlib
import json
import pathlib
import shutil
import zlib

import numpy as np
import pytest

import kd
import runs
import speech
import traps
from kd.data.audio.speech import load_speech
from kd.data.tfds_files import check_files
from kd.errors import KdError
from test_imports import MODULES
from test_speech_data import prepare

TRAP = "trap.Feature"


@pytest.fixture(autouse=True)
def trap(tmp_path):
    """On the path: the package ``trap``, which must not be imported."""
    traps.packages(tmp_path / "packages")
    with traps.importable(tmp_path / "packages"):
        yield
        assert not traps.sprung()


# --- TFDS ---


@pytest.fixture
def described(tmp_path):
    """A set that TFDS does not know, an image and a label, and a way to change its files."""
    import tensorflow_datasets as tfds

    features = tfds.features.FeaturesDict(
        {
            "image": tfds.features.Tensor(shape=(4, 4, 1), dtype=np.uint8),
            "label": tfds.features.ClassLabel(num_classes=3),
            "boxes": tfds.features.Sequence({"box": tfds.features.BBoxFeature()}),
            "note": tfds.features.Text(),
        }
    )
    home = tmp_path / "data" / "pictures" / "1.0.0"
    identity = tfds.core.DatasetIdentity(
        name="pictures", version=tfds.core.Version("1.0.0"), data_dir=str(home), module_name="no"
    )
    info = tfds.core.DatasetInfo(builder=identity, features=features)
    writer = tfds.core.SequentialWriter(info, max_examples_per_shard=9, file_format="array_record")
    home.mkdir(parents=True)
    image = np.zeros((4, 4, 1), np.uint8)
    writer.initialize_splits(["train"])
    writer.add_examples({"train": [{"image": image, "label": 1, "boxes": [], "note": "a"}] * 3})
    writer.close_all()

    def change(file, new):
        path = home.parent / file
        content = json.loads(path.read_text())
        path.write_text(json.dumps({**content, **new}))
        return str(home.parents[1])

    return change


def test_a_set_of_tfds_own_features_is_read(described):
    folder = described("1.0.0/features.json", {})
    assert len(kd.load("tfds:pictures", "train", folder)) == 3


def test_no_feature_names_code(described):
    folder = described("1.0.0/features.json", {})
    whole = (pathlib.Path(folder) / "pictures/1.0.0/features.json").read_text()
    paths = [path for path in traps.strings(json.loads(whole)) if path[-1] == "pythonClassName"]
    assert len(paths) == 7
    for path in paths:
        changed = json.loads(whole)
        traps.put(changed, path, TRAP)
        described("1.0.0/features.json", changed)
        with pytest.raises(KdError, match=r"features\.json names code of its own, 'trap\.Feature'"):
            kd.load("tfds:pictures", "train", folder)


NESTED = {"type": TRAP, "content": {}}
ELSEWHERE = [
    ("features", "python_class_name", TRAP),
    ("features", "pythonClassName", [TRAP]),
    ("features", "featuresDict", {"features": {"image": NESTED}}),
    ("features", "jsonFeature", {"json": json.dumps({"feature": NESTED})}),
    ("dataset_info", "features", {"pythonClassName": TRAP}),
]


@pytest.mark.parametrize(("file", "key", "value"), ELSEWHERE)
def test_no_other_spelling_names_code(described, file, key, value):
    folder = described(f"1.0.0/{file}.json", {key: value})
    with pytest.raises(KdError, match="names code of its own"):
        kd.load("tfds:pictures", "train", folder)


def test_no_config_and_no_link_hides_a_version(described, tmp_path):
    folder = described("1.0.0/features.json", NESTED)
    version = tmp_path / "data" / "pictures" / "1.0.0"
    (tmp_path / "elsewhere").mkdir()
    shutil.move(version, tmp_path / "elsewhere" / "1.0.0")
    (tmp_path / "data" / "pictures" / "large").symlink_to(tmp_path / "elsewhere")
    for name in ("pictures", "Pictures", "pictures/large", "pictures/large:1.0.0"):
        with pytest.raises(KdError, match="names code of its own"):
            check_files(name, folder)


OUTSIDE = [
    ("1.0.0/dataset_info.json", {"name": "../../other/x"}),
    ("1.0.0/dataset_info.json", {"splits": [{"name": "../train"}]}),
    ("1.0.0/dataset_info.json", {"splits": [{"filepathTemplate": "/etc/{SPLIT}"}]}),
    (".config/metadata.json", {"default_config_name": "../../other"}),
    (".config/metadata.json", {"default_config_name": ".hidden"}),
]


@pytest.mark.parametrize(("file", "change"), OUTSIDE)
def test_no_name_leads_out_of_the_folder(described, tmp_path, file, change):
    path = tmp_path / "data" / "pictures" / file
    path.parent.mkdir(exist_ok=True)
    if not path.exists():
        path.write_text("{}")
    folder = described(file, change)
    with pytest.raises(KdError, match="leads out of its folder"):
        kd.load("tfds:pictures", "train", folder)


@pytest.mark.parametrize(
    "name", ["huggingface:mnist", "kaggle:mnist", "mnist/..", "../mnist", "mnist/a=b", "/mnist", ""]
)
def test_no_name_of_a_set_reaches_elsewhere(tmp_path, name):
    with pytest.raises(KdError):
        kd.load(f"tfds:{name}", "train", str(tmp_path))
    with pytest.raises(KdError):
        load_speech(f"tfds:{name}", str(tmp_path), bins=10)


def test_speech_names_no_code(tmp_path):
    clip = {"audio": np.zeros(speech.RATE, np.int16), "label": next(iter(speech.WORDS))}
    prepare(tmp_path, list(speech.WORDS), {"train": [clip]})
    file = tmp_path / "speech_commands" / "0.0.3" / "features.json"
    content = json.loads(file.read_text())
    content["featuresDict"]["features"]["audio"]["pythonClassName"] = TRAP
    file.write_text(json.dumps(content))
    with pytest.raises(KdError, match="names code of its own"):
        load_speech("tfds:speech_commands", str(tmp_path), bins=10)


# --- checkpoints and arrays ---


def test_no_string_of_a_checkpoint_is_code(tmp_path):
    """Orbax names handlers and types in its metadata: it looks them up, and imports none."""
    shutil.copytree(runs.finished(), tmp_path / "run")
    steps = tmp_path / "run" / "checkpoints" / "steps"
    described = [path for path in sorted(steps.rglob("*")) if path.is_file() and is_json(path)]
    assert {"_METADATA", "_CHECKPOINT_METADATA"} <= {path.name for path in described}
    for file in described:
        before = file.read_bytes()
        content = json.loads(before)
        for path in traps.strings(content):
            traps.put(content, path, TRAP)
        file.write_text(json.dumps(content))
        sign(tmp_path / "run" / "checkpoints")
        with contextlib.suppress(Exception):  # how a damaged checkpoint is refused is another law
            kd.load_trained(tmp_path / "run")
        assert not traps.sprung(), file
        file.write_bytes(before)
    sign(tmp_path / "run" / "checkpoints")
    assert kd.load_trained(tmp_path / "run")


def is_json(path):
    try:
        return isinstance(json.loads(path.read_bytes()), dict)
    except ValueError:
        return False


def sign(folder):
    """Write the checksums of what lies there, as whoever changes files could."""
    for sums in (folder / "checksums").glob("*.json"):
        step = folder / "steps" / sums.stem
        files = [path for path in step.rglob("*") if path.is_file()]
        sums.write_text(
            json.dumps({str(f.relative_to(step)): zlib.crc32(f.read_bytes()) for f in files})
        )


class Pickled:
    def __reduce__(self):
        return __import__, ("trap",)


@pytest.mark.parametrize("key", ["train_inputs", "train_labels", "num_classes"])
def test_no_array_is_unpickled(tmp_path, key):
    arrays = {"train_inputs": np.zeros((3, 2), np.float32), "train_labels": np.arange(3)}
    bad = np.empty(1, object)
    bad[0] = Pickled()
    np.savez(tmp_path / "a.npz", **{**arrays, key: bad})
    with pytest.raises(KdError, match=r"a\.npz holds Python objects"):
        kd.load(f"npz:{tmp_path / 'a.npz'}", "train")


CALLS = {  # where text becomes code: what the caller types, and the names that `import kd` offers
    "kd": {"import_module"},
    "kd.names": {"import_module"},
    "kd.config.overrides": {"exec", "compile"},
}


@pytest.mark.parametrize("module", sorted(MODULES))
def test_text_becomes_code_in_few_places(module):
    tree = ast.parse(MODULES[module].read_text())
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    plain = {node.func.id for node in calls if isinstance(node.func, ast.Name)}
    plain |= {node.func.attr for node in calls if isinstance(node.func, ast.Attribute)}
    made = plain & {"exec", "eval", "__import__", "import_module", "run_path", "run_module"}
    if module in CALLS and "compile" in CALLS[module]:
        made |= plain & {"compile"}
    assert made == CALLS.get(module, set())
    keywords = {keyword.arg for call in calls for keyword in call.keywords}
    assert "allow_pickle" not in keywords
    imported = {
        alias.name for n in ast.walk(tree) if isinstance(n, ast.Import) for alias in n.names
    }
    assert not imported & {"pickle", "marshal", "shelve", "dill", "joblib", "runpy"}
