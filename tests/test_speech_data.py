"""Speech: folder and archives are the same corpus, features are Kaldi's, and what is wrong with a
corpus is said.
"""

import json
import os
import pathlib
import shutil
import sys
import tarfile
import zipfile

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

import speech
from kd.data.audio.features import log_mel
from kd.data.audio.speech import load_speech, speech_fingerprint
from kd.errors import KdError


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return speech.write(tmp_path_factory.mktemp("speech") / "corpus", takes=1)


@pytest.fixture
def copy(corpus, tmp_path):
    """A corpus to spoil."""
    return pathlib.Path(shutil.copytree(corpus, tmp_path / "corpus"))


def load(path):
    return load_speech(path.name, str(path.parent), bins=10)


def contents(splits):
    return {
        (s, u.name, u.word, u.speaker, u.features.tobytes())
        for s, utterances in splits.items()
        for u in utterances
    }


def test_every_split_has_its_speakers_and_words(corpus):
    splits = load(corpus)
    for split, speakers in speech.SPEAKERS.items():
        assert len(splits[split]) == speakers * len(speech.WORDS)
        assert len({u.speaker for u in splits[split]}) == speakers
        assert {u.word for u in splits[split]} == set(speech.WORDS)  # noise is no word
        assert [u.name for u in splits[split]] == sorted(u.name for u in splits[split])


@pytest.mark.parametrize("top", ["", "some/folder/"])
@pytest.mark.parametrize("kind", ["zip", "tar", "tar.gz"])
def test_an_archive_is_its_folder(corpus, tmp_path, kind, top):
    path = tmp_path / f"corpus.{kind}"
    files = [file for file in corpus.rglob("*") if file.is_file()]
    if kind == "zip":
        with zipfile.ZipFile(path, "w") as archive:
            for file in reversed(files):
                archive.write(file, top + str(file.relative_to(corpus)))
    else:
        with tarfile.open(path, "w:gz" if kind == "tar.gz" else "w") as archive:
            for file in files:
                archive.add(file, top + str(file.relative_to(corpus)))
    assert contents(load(path)) == contents(load(corpus))


def test_wav_and_flac_hold_the_same(corpus, tmp_path):
    flac = speech.write(tmp_path / "flac", takes=1, extension="flac")
    first, other = (
        {(u.word, u.features.tobytes()) for u in load(c)["test"]} for c in (corpus, flac)
    )
    assert first == other


def test_the_place_is_an_argument_or_the_environment(corpus, monkeypatch):
    monkeypatch.delenv("KD_DATA_DIR", raising=False)
    wanted = contents(load(corpus))
    assert contents(load_speech(str(corpus), bins=10)) == wanted  # an absolute path is itself
    with pytest.raises(KdError, match="set KD_DATA_DIR"):
        load_speech(corpus.name)
    monkeypatch.setenv("KD_DATA_DIR", str(corpus.parent))
    assert contents(load_speech(corpus.name, bins=10)) == wanted
    with pytest.raises(KdError, match="no /nowhere/corpus; point KD_DATA_DIR"):
        load_speech(corpus.name, "/nowhere")


def test_the_fingerprint_follows_the_files(copy):
    before = speech_fingerprint(copy.name, str(copy.parent))
    assert speech_fingerprint(copy.name, str(copy.parent)) == before
    next(copy.glob("up/*.wav")).unlink()
    assert speech_fingerprint(copy.name, str(copy.parent)) != before


# --- features ---


@given(st.integers(200, 4000), st.sampled_from([8000, 16000]), st.sampled_from([5, 23]))
def test_frames_are_whole_windows_and_nothing_is_random(samples, rate, bins):
    if samples * 1000 < rate * 25:
        return
    sound = np.random.default_rng(samples).normal(0, 0.1, samples).astype(np.float32)
    features = log_mel(sound, rate, bins)
    assert features.shape == ((samples - rate // 40) // (rate // 100) + 1, bins)
    assert features.dtype == np.float32
    np.testing.assert_array_equal(features, log_mel(sound, rate, bins))
    # log of an energy
    np.testing.assert_allclose(log_mel(sound / 2, rate, bins), features - np.log(4), atol=1e-3)


def test_a_higher_tone_lights_a_higher_band():
    t = np.arange(8000) / 8000
    bands = [
        log_mel(np.sin(2 * np.pi * f * t).astype(np.float32), 8000).mean(axis=0).argmax()
        for f in (300, 900, 2700)
    ]
    assert bands == sorted(set(bands))


def test_features_move_with_the_sound():
    sound = np.random.default_rng(0).normal(0, 0.1, 4000).astype(np.float32)
    # 10 ms, one frame
    np.testing.assert_allclose(log_mel(sound[80:], 8000), log_mel(sound, 8000)[1:], atol=1e-3)


# --- what is wrong with a corpus ---


def first(copy, split="train"):
    listed = (copy / speech.LISTS["validation"]).read_text() + (
        copy / speech.LISTS["test"]
    ).read_text()
    names = sorted(str(p.relative_to(copy)) for p in copy.glob("[!_]*/*.wav"))
    return copy / next(name for name in names if (name in listed) == (split != "train"))


def test_no_list(copy):
    (copy / "testing_list.txt").unlink()
    with pytest.raises(KdError, match=r"has no testing_list\.txt"):
        load(copy)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda clip: clip.write_bytes(b""), "cannot read clip {}"),
        (lambda clip: clip.write_bytes(clip.read_bytes()[:20]), "cannot read clip {}"),
        (lambda clip: clip.write_bytes(clip.read_bytes()[:-100]), "clip {} is cut short"),
        (lambda clip: soundfile.write(clip, np.zeros(0), speech.RATE), "clip {} is empty"),
        (
            lambda clip: soundfile.write(clip, np.zeros(150), speech.RATE),
            "{} lasts 19 ms, less than one 25 ms window",
        ),
        (
            lambda clip: soundfile.write(clip, np.zeros((800, 2)), speech.RATE),
            "clip {} has 2 channels",
        ),
        (
            lambda clip: soundfile.write(clip, np.full(800, np.nan), speech.RATE, "FLOAT"),
            "clip {} holds samples",
        ),
        (
            lambda clip: soundfile.write(clip, np.zeros(1600), 16000),
            "{} has 16000 samples a second",
        ),
        (
            lambda clip: clip.rename(clip.with_name("anyone.wav")),
            "clip .*/anyone.wav does not say who speaks",
        ),
    ],
)
def test_a_bad_clip_is_named(copy, spoil, message):
    clip = first(copy)
    spoil(clip)
    with pytest.raises(KdError, match=message.format(clip.relative_to(copy))) as caught:
        load(copy)
    assert "\n" not in str(caught.value)


def test_a_clip_that_was_written_to_a_pipe_is_read(copy):
    """Its header cannot know the length."""
    clip, whole = first(copy), load(copy)
    content = clip.read_bytes()
    clip.write_bytes(content[:4] + b"\xff" * 4 + content[8:])
    assert contents(load(copy)) == contents(whole)


def test_files_of_some_system_are_no_clips(copy):
    whole = contents(load(copy))
    for folder in (copy / "__MACOSX" / "word", first(copy).parent):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "._00000001_NO_0.wav").write_bytes(b"no sound")
    assert contents(load(copy)) == whole


def test_a_listed_clip_that_is_not_there(copy):
    clip = first(copy, "listed")
    clip.unlink()
    with pytest.raises(KdError, match=f"lists {clip.relative_to(copy)} and does not hold it"):
        load(copy)


def test_a_speaker_in_two_splits(copy):
    path = copy / "testing_list.txt"
    path.write_text(path.read_text() + f"{first(copy).relative_to(copy)}\n")
    with pytest.raises(KdError, match=r"speaker 00000001 is in (train|test) and in (train|test)"):
        load(copy)


def test_a_split_without_clips(copy):
    (copy / "testing_list.txt").write_text("")
    with pytest.raises(KdError, match="has no clips for test"):
        load(copy)


@pytest.mark.parametrize("name", ["corpus.zip", "corpus.tar.gz"])
def test_what_is_no_archive(tmp_path, name):
    (tmp_path / name).write_bytes(b"PK\x03\x04 and no more")
    with pytest.raises(KdError, match="cannot read"):
        load(tmp_path / name)


def test_the_real_archive():
    name, beside = (
        "arabic_speech_commands_8k.zip",
        pathlib.Path(__file__).resolve().parents[2] / "shared/data/speech",
    )
    utterances = [
        f for f in (os.environ.get("KD_DATA_DIR"), beside) if f and pathlib.Path(f, name).is_file()
    ]
    if not utterances:
        pytest.skip(f"no {name}: set KD_DATA_DIR to the folder that holds it")
    splits = load_speech(name, str(utterances[0]))
    assert {split: len(utterances) for split, utterances in splits.items()} == {
        "train": 3600,
        "validation": 1200,
        "test": 1200,
    }
    assert {split: len({u.speaker for u in u_s}) for split, u_s in splits.items()} == {
        "train": 18,
        "validation": 6,
        "test": 6,
    }
    assert {u.features.shape for utterances in splits.values() for u in utterances} == {(98, 40)}


# --- TFDS ---


def prepare(folder, words, splits):
    """What ``tfds build speech_commands --file_format=array_record`` leaves, without TensorFlow."""
    import tensorflow_datasets as tfds

    features = tfds.features.FeaturesDict(
        {
            "audio": tfds.features.Tensor(shape=(None,), dtype=np.int16),
            "label": tfds.features.ClassLabel(names=words),
        }
    )
    home = folder / "speech_commands" / "0.0.3"
    identity = tfds.core.DatasetIdentity(
        name="speech_commands",
        version=tfds.core.Version("0.0.3"),
        data_dir=str(home),
        module_name="tests",
    )
    info = tfds.core.DatasetInfo(builder=identity, features=features)
    writer = tfds.core.SequentialWriter(info, max_examples_per_shard=5, file_format="array_record")
    home.mkdir(parents=True)
    writer.initialize_splits(list(splits))
    writer.add_examples(splits)
    writer.close_all()
    described = json.loads((home / "features.json").read_text())
    described["featuresDict"]["features"]["audio"] = {
        "pythonClassName": "tensorflow_datasets.core.features.audio_feature.Audio",
        "audio": {
            "shape": {"dimensions": ["-1"]},
            "dtype": "int16",
            "fileFormat": "wav",
            "sampleRate": "8000",
        },
    }
    (home / "features.json").write_text(json.dumps(described))


def test_a_prepared_tfds_set_is_read_without_tensorflow(tmp_path):
    random, words = np.random.default_rng(0), [*speech.WORDS, "_silence_", "_unknown_"]
    clips = {
        split: [{"audio": speech.tones(word, random), "label": word} for word in speech.WORDS] * 3
        + [{"audio": np.zeros(speech.RATE, np.int16), "label": "_silence_"}]
        for split in ("train", "validation", "test")
    }
    prepare(tmp_path, words, clips)
    splits = load_speech("tfds:speech_commands", str(tmp_path), bins=10)
    assert "tensorflow" not in sys.modules
    for split, utterances in splits.items():
        assert [u.word for u in utterances] == [*speech.WORDS] * 3
        wanted = log_mel(clips[split][1]["audio"] / np.float32(2**15), speech.RATE, 10)
        np.testing.assert_array_equal(utterances[1].features, wanted)
    with pytest.raises(KdError, match="'speech_commands' is not prepared in /nowhere"):
        load_speech("tfds:speech_commands", "/nowhere")


def test_a_clip_in_two_places(copy):
    clip = first(copy).relative_to(copy)
    (copy / "more" / clip.parent).mkdir(parents=True)
    (copy / "more" / clip).write_bytes((copy / clip).read_bytes())
    with pytest.raises(KdError, match=f"holds {clip} twice"):
        load(copy)


def test_a_clip_in_both_lists(copy):
    both = (copy / "validation_list.txt").read_text() + (copy / "testing_list.txt").read_text()
    (copy / "testing_list.txt").write_text(both)
    with pytest.raises(KdError, match="for validation and for test"):
        load(copy)


def test_a_list_that_is_not_text(copy):
    (copy / "testing_list.txt").write_bytes(b"\xe9")
    with pytest.raises(KdError, match="is not UTF-8 text"):
        load(copy)


def test_a_tar_damaged_inside_does_not_end_there(copy, tmp_path):
    with tarfile.open(tmp_path / "words.tar", "w") as archive:
        for name in ("validation_list.txt", "testing_list.txt", "up", "stop", "down"):
            archive.add(copy / name, name)
    with tarfile.open(tmp_path / "words.tar") as archive:
        member = archive.getmembers()[-1]
    damaged = bytearray((tmp_path / "words.tar").read_bytes())
    damaged[member.offset : member.offset + 100] = bytes([1]) * 100
    (tmp_path / "words.tar").write_bytes(damaged)
    with pytest.raises(KdError, match=r"words\.tar: a header inside is damaged"):
        load(tmp_path / "words.tar")


def test_more_bins_than_the_rate_resolves():
    with pytest.raises(KdError, match="1000 bins cannot be had at 8000"):
        log_mel(np.zeros(800), 8000, 1000)
