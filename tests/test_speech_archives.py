"""Speech archives that are damaged or dangerous: the same corpus or one line, never a shorter
clip.
"""

import io
import pathlib
import shutil
import tarfile
import zipfile

import numpy as np
import pytest
import soundfile

import speech
from damage import damaged
from kd.data.audio.speech import load_speech
from kd.errors import KdError


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """File contents by name."""
    folder = speech.write(tmp_path_factory.mktemp("speech") / "corpus", takes=1, extension="flac")
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def pack(path, files):
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w") as archive:
            for name, content in files.items():
                archive.writestr(name, content)
        return path
    with tarfile.open(path, "w:gz") as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return path


def load(path):
    return load_speech(path.name, str(path.parent), bins=10)


def contents(splits):
    return {(s, u.name, u.features.tobytes()) for s, part in splits.items() for u in part}


def refused(path, message):
    with pytest.raises(KdError, match=message) as caught:
        load(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", ["a.zip", "a.tar.gz"])
@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("../up/00000001_NO_9.wav", "no safe one"),
        ("/up/00000001_NO_9.wav", "no safe one"),
        ("up/../../x.wav", "no safe one"),
        ("more/testing_list.txt", "holds testing_list.txt twice"),
        ("up/00000001_NO_9.wav", "cannot read clip up/00000001_NO_9.wav"),
    ],
)
def test_an_archive_with_a_name_that_is_no_good(corpus, tmp_path, kind, name, message):
    refused(pack(tmp_path / kind, corpus | {name: b"x"}), message)


@pytest.mark.parametrize("kind", ["a.zip", "a.tar.gz"])
def test_files_of_some_system_are_no_clips(corpus, tmp_path, kind):
    foreign = {f"__MACOSX/{name}": b"x" for name in corpus}
    foreign |= {"__MACOSX/up/._00000001_NO_0.wav": b"x", "up/._00000001_NO_0.wav": b"x"}
    whole = contents(load(pack(tmp_path / f"whole-{kind}", corpus)))
    assert contents(load(pack(tmp_path / kind, corpus | foreign))) == whole


def test_a_link_is_no_clip_and_is_not_left_out_without_a_word(corpus, tmp_path):
    path = tmp_path / "a.tar"
    with tarfile.open(path, "w") as archive:
        for name, content in corpus.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
        entry = tarfile.TarInfo("up/00000001_NO_5.wav")
        entry.type, entry.linkname = tarfile.SYMTYPE, "00000001_NO_00.flac"
        archive.addfile(entry)
    refused(path, "up/00000001_NO_5.wav in .* is a link")


def test_a_clip_that_is_too_large_for_a_word(corpus, tmp_path):
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        with archive.open("up/00000001_NO_9.wav", "w", force_zip64=True) as file:
            for _ in range(2**5):
                file.write(bytes(2**23))
            file.write(b"x")
        for name, content in corpus.items():
            archive.writestr(name, content)
    refused(path, "declares 268,435,457 bytes, and 268,435,456 is the most")


@pytest.mark.parametrize("kind", ["a.zip", "a.tar.gz"])
def test_a_damaged_archive_is_the_same_corpus_or_one_line(corpus, tmp_path, kind):
    path = pack(tmp_path / kind, corpus)
    whole, refusals = contents(load(path)), []
    for fault, content in damaged(path.read_bytes(), most=24):
        path.write_bytes(content)
        try:
            assert contents(load(path)) == whole, fault
        except KdError as error:
            refusals.append(str(error))
    assert len(refusals) > 20
    assert "\n" not in "".join(refusals)


# --- a clip is whole or refused ---


def clip(form="WAV", samples=4000, **options):
    file = io.BytesIO()
    sound = np.random.default_rng(0).normal(0, 0.1, samples)
    soundfile.write(file, sound, speech.RATE, format=form, **options)
    return file.getvalue()


def with_clip(corpus, tmp_path, content, ending="wav"):
    name = f"up/00000001_NO_9.{ending}"
    return pack(tmp_path / "a.zip", corpus | {name: content})


@pytest.mark.parametrize("form", ["WAV", "FLAC"])
@pytest.mark.parametrize("kept", [0.02, 0.3, 0.6, 0.9, 0.99])
def test_a_clip_that_is_cut_is_not_a_shorter_one(corpus, tmp_path, form, kept):
    content = clip(form)
    path = with_clip(corpus, tmp_path, content[: int(kept * len(content))], form.lower())
    refused(path, f"clip up/00000001_NO_9.{form.lower()}")


@pytest.mark.parametrize("riff", [0, 36, 2**31 - 1, 2**32 - 1])
def test_a_clip_whose_samples_are_cut_whatever_the_file_says_of_itself(corpus, tmp_path, riff):
    content = clip()[:-1000]
    content = content[:4] + riff.to_bytes(4, "little") + content[8:]
    refused(with_clip(corpus, tmp_path, content), "clip up/00000001_NO_9.wav")


def test_a_clip_that_declares_years(corpus, tmp_path):
    content = bytearray(clip("FLAC"))
    content[21] |= 0x0F  # the number of samples, 36 bits
    content[22:26] = b"\xff" * 4
    refused(with_clip(corpus, tmp_path, bytes(content), "flac"), "clip up/00000001_NO_9.flac")


def test_a_corpus_in_a_folder_is_its_archive(corpus, tmp_path):
    for name, content in corpus.items():
        (tmp_path / "folder" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "folder" / name).write_bytes(content)
    linked = pathlib.Path(tmp_path / "linked")
    linked.symlink_to(tmp_path / "folder")
    wanted = contents(load(pack(tmp_path / "a.zip", corpus)))
    assert contents(load(tmp_path / "folder")) == contents(load(linked)) == wanted
    shutil.rmtree(tmp_path / "folder")
    refused(linked, "no .*linked; point KD_DATA_DIR")
