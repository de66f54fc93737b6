"""Word-labelled speech in the Speech Commands layout, as log-mel features.

The only place that reads audio.
"""

from __future__ import annotations

import dataclasses
import hashlib
import io
import lzma
import os
import pathlib
import re
import tarfile
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from kd.errors import KdError

_LISTS = {"validation_list.txt": "validation", "testing_list.txt": "test"}
_SPEAKER = re.compile(r"(?P<speaker>.+)_(NO|nohash)_\w+")
_WINDOW_MS, _SHIFT_MS = 25, 10
_DAMAGED = (
    OSError,
    EOFError,
    RuntimeError,
    tarfile.TarError,
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
)
"""What reading a damaged archive raises; RuntimeError is one with a password, or of an unknown
compression.
"""


@dataclasses.dataclass(frozen=True)
class Utterance:
    """One clip: a word, who said it, and its features ``[frames bins]``.

    `speaker` is "" where nobody knows.
    """

    name: str
    word: str
    speaker: str
    features: np.ndarray = dataclasses.field(repr=False)


Splits = Mapping[str, Sequence[Utterance]]
"""``train``, ``validation`` and ``test``; each in the order of the names."""


def load_speech(source: str, data_dir: str | None = None, *, bins: int = 40) -> Splits:
    """Utterances of a folder, .zip or .tar(.gz) archive in the Speech Commands layout, or of
    ``tfds:speech_commands``.

    The layout: ``word/speaker_NO_k.wav`` (or .flac, or ``_nohash_``), ``validation_list.txt`` and
    ``testing_list.txt``; what neither lists is training data, and a folder that begins with an
    underscore is no word. Features: `log_mel`.

    Raises:
      KdError: nothing there, no split lists, a listed file that is missing, a clip that is empty,
        unreadable, too short or of another sample rate, a speaker in two splits.

    Source: P. Warden (2018), "Speech Commands: a dataset for limited-vocabulary speech
    recognition".
    """
    if source.startswith("tfds:"):
        from kd.data.tfds_speech import load_tfds_speech

        return load_tfds_speech(source.removeprefix("tfds:"), data_dir, bins)
    path = find_speech(source, data_dir)
    lists, rates, utterances = {}, {}, {}
    for parts, content in _files(path):
        name = "/".join(parts[-2:])
        if parts[-1] in _LISTS:
            lists[parts[-1]] = _lines(name, content)
        elif _is_clip(parts):
            if name in utterances:
                raise KdError(f"{path} holds {name} twice, in different folders; keep one of them")
            samples, rate = _decode(name, content)
            _same_rate(name, rate, rates)
            utterances[name] = Utterance(
                name, parts[-2], _speaker(name), log_mel(samples, rate, bins, name)
            )
    return _split(path, utterances, lists)


def find_speech(source: str, data_dir: str | None) -> pathlib.Path:
    """Where `source` lies: in `data_dir`, else in ``KD_DATA_DIR``; an absolute path is itself.

    Raises:
      KdError: it is not there, or nobody said where to look.
    """
    folder = data_dir or os.environ.get("KD_DATA_DIR")
    if folder is None and not os.path.isabs(source):
        raise KdError(
            f"no folder to look for {source} in; set KD_DATA_DIR to the folder that holds it, or "
            "--data_dir"
        )
    path = pathlib.Path(os.path.expanduser(os.path.join(folder or "/", source)))
    if not os.path.exists(path):
        raise KdError(
            f"no {path}; point KD_DATA_DIR or --data_dir at the folder that holds {source}"
        )
    return path


def speech_fingerprint(source: str, data_dir: str | None = None) -> str:
    """Hash of an archive's bytes, or of the names and sizes of a folder's files and of its split
    lists.

    Raises:
      KdError: as `find_speech`.
    """
    if source.startswith("tfds:"):
        return source
    path, digest = find_speech(source, data_dir), hashlib.sha256()
    if path.is_file():
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()[:16]
    for file in _sorted_files(path):
        digest.update(
            f"{file.relative_to(path)} {file.stat().st_size}\n".encode("utf-8", "surrogateescape")
        )
        if file.name in _LISTS:
            digest.update(file.read_bytes())
    return digest.hexdigest()[:16]


def log_mel(samples: np.ndarray, rate: int, bins: int = 40, name: str = "the clip") -> np.ndarray:
    """Log-mel filterbank features as Kaldi computes them: 25 ms windows every 10 ms, no dither, so
    nothing is random.

    Shapes: ``samples[n]`` float in [-1, 1] -> ``[frames bins]`` float32, where the last window ends
    inside the clip.

    Raises:
      KdError: a clip shorter than one window (its `name` is shown), or more bins than the sample
        rate resolves.
    """
    import kaldi_native_fbank

    if len(samples) * 1000 < rate * _WINDOW_MS:
        raise KdError(
            f"{name} lasts {1000 * len(samples) / rate:.0f} ms, less than one {_WINDOW_MS} ms "
            "window; remove it"
        )
    options = kaldi_native_fbank.FbankOptions()
    options.frame_opts.samp_freq = rate
    options.frame_opts.frame_length_ms, options.frame_opts.frame_shift_ms = _WINDOW_MS, _SHIFT_MS
    options.frame_opts.dither = 0
    options.mel_opts.num_bins = bins
    try:
        bank: Any = kaldi_native_fbank.OnlineFbank(options)
    except ValueError as error:
        raise KdError(
            f"{bins} bins cannot be had at {rate} samples a second: {error} choose another number"
        ) from error
    bank.accept_waveform(rate, (samples * 2**15).tolist())  # Kaldi's scale: 16-bit integers
    bank.input_finished()
    return np.stack([bank.get_frame(i) for i in range(bank.num_frames_ready)])


def _files(path: pathlib.Path) -> Iterator[tuple[tuple[str, ...], bytes]]:
    """Every file below a folder or in an archive: the parts of its name, and its bytes."""
    try:
        if path.is_dir():
            for file in _sorted_files(path):
                yield file.relative_to(path).parts, file.read_bytes()
        elif zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                for entry in archive.infolist():
                    if not entry.is_dir():
                        yield pathlib.PurePosixPath(entry.filename).parts, archive.read(entry)
        else:
            with tarfile.open(path) as archive:
                for member in archive:
                    if member.isfile():
                        yield (
                            pathlib.PurePosixPath(member.name).parts,
                            archive.extractfile(member).read(),
                        )  # type: ignore[union-attr]
                _check_end(archive)
    except _DAMAGED as error:
        raise KdError(
            f"cannot read {path}: {error}; give a folder, a .zip or a .tar.gz that is whole"
        ) from error


def _is_clip(parts: tuple[str, ...]) -> bool:
    """A .wav or .flac in a word's folder; a name that begins with a dot is some system's own."""
    is_audio = parts[-1].lower().endswith((".wav", ".flac")) and not parts[-1].startswith(".")
    return is_audio and len(parts) > 1 and not parts[-2].startswith("_")


def _check_end(archive: tarfile.TarFile) -> None:
    """tarfile takes a damaged header for the end, and what comes after it would be lost without a
    word.
    """
    file: Any = archive.fileobj
    file.seek(archive.offset)
    if any(block.strip(b"\0") for block in iter(lambda: file.read(2**20), b"")):
        raise tarfile.ReadError("a header inside is damaged")


def _sorted_files(folder: pathlib.Path) -> list[pathlib.Path]:
    return sorted(file for file in folder.rglob("*") if file.is_file())


def _lines(name: str, content: bytes) -> list[str]:
    try:
        return content.decode("utf-8-sig").split()
    except UnicodeDecodeError as error:
        raise KdError(
            f"{name} is not UTF-8 text: {error.reason}; write it anew, a clip on each line"
        ) from error


def _decode(name: str, content: bytes) -> tuple[np.ndarray, int]:
    import soundfile

    try:
        samples, rate = soundfile.read(io.BytesIO(content), dtype="float32")
    except soundfile.LibsndfileError as error:
        raise KdError(
            f"cannot read clip {name}: {str(error).rpartition(': ')[2]} remove it, or get it anew"
        ) from error
    if samples.ndim != 1:
        raise KdError(f"clip {name} has {samples.shape[1]} channels; mix it down to one")
    if _cut_short(content):
        raise KdError(
            f"clip {name} is cut short: its header says more than the file holds; remove it, or "
            "get it anew"
        )
    if len(samples) == 0:
        raise KdError(f"clip {name} is empty: it holds no samples; remove it, or get it anew")
    if not (np.abs(samples) < 2.0**15).all():
        raise KdError(f"clip {name} holds samples that are NaN or huge; remove it, or get it anew")
    return samples, rate


def _cut_short(content: bytes) -> bool:
    """Whether a WAV file ends before the length that it declares; the library reads what is there
    without a word.

    What was written to a pipe declares a length that no file has, and one byte may be padding.
    """
    declared = 8 + int.from_bytes(content[4:8], "little")
    return content[:4] == b"RIFF" and len(content) + 1 < declared < 2**31 - 1


def _same_rate(name: str, rate: int, rates: dict[int, str]) -> None:
    rates.setdefault(rate, name)
    if len(rates) > 1:
        (one, first), (other, second) = rates.items()
        raise KdError(
            f"clip {first} has {one} samples a second and {second} has {other}; resample to one "
            "rate"
        )


def _speaker(name: str) -> str:
    found = _SPEAKER.fullmatch(pathlib.PurePosixPath(name).stem)
    if found is None:
        raise KdError(
            f"clip {name} does not say who speaks; name clips speaker_NO_k.wav or "
            "speaker_nohash_k.wav"
        )
    return found["speaker"]


def _split(
    path: pathlib.Path, utterances: Mapping[str, Utterance], lists: Mapping[str, Sequence[str]]
) -> Splits:
    missing = [name for name in _LISTS if name not in lists]
    if missing:
        raise KdError(
            f"{path} has no {missing[0]}; the Speech Commands layout lists validation and test "
            "clips"
        )
    where = {
        clip: _LISTS[name]
        for name, clips in lists.items()
        for clip in clips
        if not clip.startswith("_")
    }
    twice = sorted(set(lists["validation_list.txt"]) & set(lists["testing_list.txt"]))
    if twice:
        raise KdError(f"{path} lists {twice[0]} for validation and for test; keep it in one list")
    absent = [clip for clip in where if clip not in utterances]
    if absent:
        raise KdError(
            f"{path} lists {absent[0]} and does not hold it; get it anew, or mend the list"
        )
    splits = {split: [] for split in ("train", "validation", "test")}
    home: dict[str, str] = {}
    for name in sorted(utterances):
        split, speaker = where.get(name, "train"), utterances[name].speaker
        if home.setdefault(speaker, split) != split:
            raise KdError(
                f"speaker {speaker} is in {home[speaker]} and in {split}; splits must not share a "
                "speaker"
            )
        splits[split].append(utterances[name])
    empty = [split for split, found in splits.items() if not found]
    if empty:
        raise KdError(
            f"{path} has no clips for {empty[0]}; list some of its clips for each split, and not "
            "all"
        )
    return splits
