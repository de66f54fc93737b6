"""Word-labelled speech in the Speech Commands layout, as log-mel features.

The only place that reads audio.
"""

from __future__ import annotations

import hashlib
import io
import pathlib
import re
from collections.abc import Mapping, Sequence

import numpy as np

from kd.data.archive import find_data, members
from kd.data.audio.features import Splits, Utterance, log_mel
from kd.data.audio.tfds import load_tfds_speech
from kd.errors import KdError, reading

_LISTS = {"validation_list.txt": "validation", "testing_list.txt": "test"}
_SPEAKER = re.compile(r"(?P<speaker>.+)_(NO|nohash)_\w+")
_LARGEST = 2**28  # bytes of a file: no word lasts so long


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
        return load_tfds_speech(source.removeprefix("tfds:"), data_dir, bins)
    path = find_data(source, data_dir)
    lists, rates, utterances = {}, {}, {}
    for member in members(path, _is_read, _LARGEST):
        parts = member.parts
        name = "/".join(parts[-2:])
        if parts[-1] in _LISTS:
            if parts[-1] in lists:
                raise KdError(f"{path} holds {parts[-1]} twice; keep one of them")
            lists[parts[-1]] = _lines(name, member.read())
            continue
        if name in utterances:
            raise KdError(f"{path} holds {name} twice, in different folders; keep one of them")
        samples, rate = _decode(name, member.read())
        _same_rate(name, rate, rates)
        features = log_mel(samples, rate, bins, name)
        utterances[name] = Utterance(name, parts[-2], _speaker(name), features)
    return _split(path, utterances, lists)


def speech_fingerprint(source: str, data_dir: str | None = None) -> str:
    """Hash of an archive's bytes, or of the names and sizes of a folder's files and of its split
    lists.

    Raises:
      KdError: as `members` and `find_data`.
    """
    if source.startswith("tfds:"):
        return source
    path, digest = find_data(source, data_dir), hashlib.sha256()
    if path.is_file():
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()[:16]
    for member in sorted(members(path), key=lambda member: pathlib.Path(member.name)):
        digest.update(f"{member.name} {member.size}\n".encode("utf-8", "surrogateescape"))
        if member.parts[-1] in _LISTS:
            digest.update(member.read())
    return digest.hexdigest()[:16]


def _is_read(parts: tuple[str, ...]) -> bool:
    """A list, or a .wav or .flac in a word's folder."""
    name, word = parts[-1], "".join(parts[-2:-1])
    is_clip = name.lower().endswith((".wav", ".flac"))
    return name in _LISTS or (is_clip and bool(word) and not word.startswith("_"))


def _lines(name: str, content: bytes) -> list[str]:
    try:
        return content.decode("utf-8-sig").split()
    except UnicodeDecodeError as error:
        raise KdError(
            f"{name} is not UTF-8 text: {error.reason}; write it anew, a clip on each line"
        ) from error


def _decode(name: str, content: bytes) -> tuple[np.ndarray, int]:
    import soundfile

    damage = reading(f"clip {name}", "remove it, or get it anew")
    with damage, soundfile.SoundFile(io.BytesIO(content)) as sound:
        if sound.channels != 1:
            raise KdError(f"clip {name} has {sound.channels} channels; mix it down to one")
        if sound.frames > _LARGEST:
            raise KdError(f"clip {name} declares {sound.frames:,} samples; remove it")
        samples, rate, declared = sound.read(dtype="float32"), sound.samplerate, sound.frames
    if len(samples) < declared or _cut_short(content):
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
    """Whether a WAV file ends before a length that it declares, of the whole or of its samples; the
    library reads what is there without a word.

    What was written to a pipe declares a length that no file has, and one byte may be padding.
    """
    if content[:4] != b"RIFF":
        return False
    ends, place = [_end(content, 0)], 12
    while place + 8 <= len(content):
        ends.append(_end(content, place))
        if content[place : place + 4] == b"data":
            break
        place = ends[-1] + ends[-1] % 2
    return any(len(content) + 1 < end < 2**31 - 1 for end in ends)


def _end(content: bytes, place: int) -> int:
    """Where the chunk at `place` declares that it ends."""
    return place + 8 + int.from_bytes(content[place + 4 : place + 8], "little")


def _same_rate(name: str, rate: int, rates: dict[int, str]) -> None:
    rates.setdefault(rate, name)
    if len(rates) > 1:
        (first_rate, first), (other, second) = rates.items()
        raise KdError(
            f"clip {first} has {first_rate} samples a second and {second} has {other}; resample "
            "to one rate"
        )


def _speaker(name: str) -> str:
    match = _SPEAKER.fullmatch(pathlib.PurePosixPath(name).stem)
    if match is None:
        raise KdError(
            f"clip {name} does not say who speaks; name clips speaker_NO_k.wav or "
            "speaker_nohash_k.wav"
        )
    return match["speaker"]


def _split(
    path: pathlib.Path, utterances: Mapping[str, Utterance], lists: Mapping[str, Sequence[str]]
) -> Splits:
    missing = [name for name in _LISTS if name not in lists]
    if missing:
        raise KdError(
            f"{path} has no {missing[0]}; the Speech Commands layout lists validation and test "
            "clips"
        )
    listed = {
        clip: _LISTS[name]
        for name, clips in lists.items()
        for clip in clips
        if not clip.startswith("_")
    }
    twice = sorted(set(lists["validation_list.txt"]) & set(lists["testing_list.txt"]))
    if twice:
        raise KdError(f"{path} lists {twice[0]} for validation and for test; keep it in one list")
    absent = [clip for clip in listed if clip not in utterances]
    if absent:
        raise KdError(
            f"{path} lists {absent[0]} and does not hold it; get it anew, or mend the list"
        )
    splits = {split: [] for split in ("train", "validation", "test")}
    home: dict[str, str] = {}
    for name in sorted(utterances):
        split, speaker = listed.get(name, "train"), utterances[name].speaker
        if home.setdefault(speaker, split) != split:
            raise KdError(
                f"speaker {speaker} is in {home[speaker]} and in {split}; splits must not share a "
                "speaker"
            )
        splits[split].append(utterances[name])
    empty = [split for split, spoken in splits.items() if not spoken]
    if empty:
        raise KdError(
            f"{path} has no clips for {empty[0]}; list some of its clips for each split, and not "
            "all"
        )
    return splits
