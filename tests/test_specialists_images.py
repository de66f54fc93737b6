"""Section 5 on images: the stages, claims and page of sentences, on what one stage decodes once."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import kd
import pictures
import runs
from experiments.hinton2015.specialists import claims, stages
from experiments.hinton2015.specialists.data import MADE, Protocol, source
from experiments.hinton2015.specialists.images import checksum, features, names, words
from experiments.hinton2015.specialists.protocol import check
from kd import data as kd_data
from kd.config import build, load_config
from kd.core import rng
from kd.errors import KdError
from kd.evidence import machine
from kd.pages import build_page
from kd.runs.models import make_model
from kd.runs.stages import stage_fingerprints
from kd.specialists.model import begun
from kd.teachers import Trained

CONFIG = runs.ROOT / "configs" / "hinton2015_specialists_images.py"
RUNS = ("generalist", "longer", "specialist", "distilled")
WORDS = "ant\tworker, soldier\nbee\tqueen bee, Apis\nelk\tmoose\n"
SPLITS = {"train": 48, "val": 12}
SIZE = 8
NORMALISED = {"mean": (0.5, 0.4, 0.3), "deviation": (0.2, 0.2, 0.3)}


def write(path, called=WORDS):
    """Images of three classes, and what these are called."""
    files = pictures.draw(SPLITS, (12, 12, 3))
    return pictures.write(path, {**files, "words.txt": called.encode()})


def small(path, student=None, **changes):
    """The experiment in seconds: a perceptron that reads small images."""
    config = load_config(CONFIG, "quick").to_dict()
    config["images"] = {"data": {"source": f"folder:{path}", "data_dir": None}, "size": SIZE}
    config["clustering"] |= {"count": 2, "size": 2, "split": "train[:108]"}
    config["split"] = "val"
    for name in RUNS:
        config[name]["student"] = student or {"name": "mlp", "widths": (8,)}
        config[name]["data"] |= {
            "train": "train[:108]",
            "eval": "train[108:]",
            "batch_size": 12,
        }
        config[name]["total_epochs"] = 2
        config[name]["optim"]["learning_rate"] = 0.02
        config[name]["mesh"]["devices"] = 1
    return config | changes


def protocol(told):
    return build(Protocol, told, "config")


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return write(tmp_path_factory.mktemp("images") / "small.zip")


@pytest.fixture(scope="module")
def finished(path, tmp_path_factory):
    """A finished run: its folder and results."""
    folder = tmp_path_factory.mktemp("experiment")
    return folder, stages.run(small(path), folder, lambda _: None)


# --- what is made of the images ---


def made(path, folder, **changes):
    told = {"source": f"folder:{path}", "splits": list(SPLITS), "size": SIZE, "checksum": ""}
    return features(folder, {}, **{**told, **changes})


def test_what_is_made_is_what_a_run_would_have_read(path, tmp_path):
    """Pixels as `data.image_size` makes them, each example with the word for its folder."""
    answer = made(path, tmp_path)
    assert answer["splits"] == {"train": 144, "val": 36}
    called = {"ant": "worker", "bee": "queen bee", "cow": "cow"}
    for split in SPLITS:
        stored = kd_data.load("npz:images.npz", split, tmp_path)
        stream = kd_data.open_stream(f"folder:{path}", split, size=SIZE)
        wanted = kd_data.in_memory(stream)
        np.testing.assert_array_equal(stored.inputs, wanted.inputs)
        assert (stored.scale, stored.inputs.dtype) == (wanted.scale, np.uint8)
        assert list(stored.class_names) == sorted(called.values()) == answer["class_names"]
        told = [stored.class_names[label] for label in stored.labels]
        assert told == [called[wanted.class_names[label]] for label in wanted.labels]


def test_without_words_a_class_is_called_as_its_folder(tmp_path):
    plain = pictures.write(tmp_path / "plain", pictures.draw(SPLITS, (12, 12, 3)))
    assert words(f"folder:{plain}", None) == {}
    assert made(plain, tmp_path)["class_names"] == list(pictures.CLASSES)


def test_every_class_has_a_name_of_its_own():
    called = names(("n1", "n2", "n3", "n4"), {"n1": "crane", "n2": "crane", "n3": "slug", "n4": ""})
    assert called == ["crane (n1)", "crane (n2)", "slug", "n4"]


def test_words_that_are_not_well_formed_are_refused(tmp_path):
    path = write(tmp_path / "bad.zip", "ant worker\n")
    with pytest.raises(KdError, match=r"cannot read words.txt in .*a tab, and what"):
        words(f"folder:{path}", None)


def test_images_without_classes_are_refused(path, tmp_path):
    files = {f"val/{i}.png": pictures.encoded(np.zeros((9, 9, 3), np.uint8)) for i in range(3)}
    half = pictures.write(tmp_path / "half", {**pictures.draw({"train": 2}), **files})
    with pytest.raises(KdError, match=r"val in .* no folders of their"):
        made(half, tmp_path)


# --- which stages these are ---


def test_other_images_words_or_sizes_are_another_experiment(path, tmp_path):
    def told(path, size=SIZE):
        config = small(path)
        config["images"]["size"] = size
        return stage_fingerprints(stages.make_stages(protocol(config)))

    own = told(path)
    assert own == told(path)
    others = [
        told(write(tmp_path / "other.zip", WORDS.replace("worker", "soldier"))),
        told(path, 9),
    ]
    for other in others:
        assert own.keys() == other.keys()
        assert not {*own.values()} & {*other.values()}
    assert checksum(f"folder:{path}", ["train"], SIZE, None) != checksum(
        f"folder:{path}", ["val"], SIZE, None
    )


def test_every_stage_reads_what_was_decoded_once(path):
    own = protocol(small(path))
    first, *others = stages.make_stages(own)
    assert (first.name, first.options["splits"]) == (MADE, ["train", "val"])
    assert all(MADE in stage.needs for stage in others)
    assert source(own) == path.name


def test_examples_are_images_or_sentences(path):
    both = small(path, text={"data": {"source": "clinc150.zip"}})
    with pytest.raises(KdError, match=r"config.text and config.images are both examples"):
        stages.make_stages(protocol(both))
    with pytest.raises(KdError, match="did you mean 'size'"):
        stages.make_stages(protocol(small(path, images={"data": {"source": "s"}, "sise": 3})))


# --- the config ---


@pytest.mark.parametrize("argument", ["", "hypotheses", "quick"])
def test_the_config_compares_what_can_be_compared(argument):
    told = protocol(load_config(CONFIG, argument).to_dict())
    specs = check(told)
    clustering, runs = told.clustering, {name: specs[name] for name in RUNS}
    assert len({json.dumps(plain.student, default=str) for plain in runs.values()}) == 1
    assert clustering.split == specs["generalist"].data.train  # no example of validation
    if argument == "quick":
        return
    special = 2 * specs["specialist"].total_epochs * clustering.count * clustering.size / 100
    spent = specs["generalist"].total_epochs + special + specs["distilled"].total_epochs
    assert specs["longer"].total_epochs == spent
    assert told.ensemble == 1 + clustering.count
    assert len(told.seeds) == 5
    assert set(told.bands) == {"gain", "kept"}
    assert [len(told.hypotheses), len(told.steps_back)] == [4 * (argument == "hypotheses")] * 2


# --- what comes of it ---


def test_every_system_is_measured(finished):
    _, results = finished
    counts = {name: len(members) for name, members in results["systems"].items()}
    students = ("self", "of_ensemble", "of_specialists")
    assert counts == {"generalist": 2, "ensemble": 1, "longer": 2, **dict.fromkeys(students, 2)}
    assert claims.alone(results) == claims.wrong(results, "generalist")
    assert results["groups"] is None
    assert results["class_names"] == ["cow", "queen bee", "worker"]


def test_the_page_calls_classes_and_network_by_name(finished):
    _, results = finished
    told = {
        "experiment": "hinton2015-specialists-images",
        "command": "kd reproduce",
        "fingerprint": "f",
        "machine": machine(),
        **results,
    }
    for run in RUNS:
        network = {"name": "resnet", "depth": 8, "width": 0.5, "mean": [0.5], "deviation": [0.5]}
        told["protocol"][run] = {**told["protocol"][run], "student": network}
    page = build_page(json.loads(json.dumps(told))).markdown
    clusters = page[page.index("## The clusters") : page.index("## The joint distribution")]
    assert "queen bee" in clusters
    assert "domains" not in page
    assert "| network | resnet, depth 8, width 0.5 |" in page
    assert "| weight decay | 0.0005 |" in page
    assert "train alike, at the temperature 2." in page
    assert "hidden" not in page


def test_specialists_of_convolutions_begin_as_their_generalist():
    """A normalised residual network is made again with other outputs, its batch statistics too: of
    a specialist's own classes it says what the generalist says.
    """
    random = np.random.default_rng(0)
    data = kd.arrays(random.integers(0, 256, (12, 8, 8, 3), np.uint8), np.arange(12) % 4)
    network = {"name": "resnet", "depth": 8, "width": 0.25, "stem": 4, **NORMALISED}
    model = make_model(network, 4, compute="float32", remat=False)
    params, extra = model.init(rng.key(1), jnp.ones((1, 8, 8, 3)))
    extra = jax.tree.map(lambda leaf: leaf + random.random(leaf.shape, np.float32), extra)
    generalist, classes = Trained(model, params, extra), ((0, 1), (3,))
    first = begun(generalist, None, data, classes)
    wanted = generalist.logits(data)
    for special, logits in zip(classes, first.logits(data), strict=True):
        np.testing.assert_allclose(logits[:, special], wanted[:, special], rtol=1e-4, atol=1e-5)
