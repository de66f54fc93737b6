"""Data sets in folders and archives, damaged: speech corpora, images, tables, TFDS image sets."""

import contextlib
import csv
import pathlib
import tarfile
import zipfile

import numpy as np

import pictures
import runs
import speech
from fuzz.archives import KEYS, a_bit, bytes_between, cut, names, of_loss
from fuzz.oracle import Case, trained
from fuzz.values import choice

PACKED = ["folder", "zip", "tar", "tar.gz"]


def corpus(random):
    """Speech, loaded."""
    damages, packed, spoilt = drawn(random, CORPUS_DAMAGES), choice(random, PACKED), _bytes(random)
    splits: list = []

    def call():
        from kd.data.audio.speech import load_speech, speech_fingerprint

        path = _laid_out(speech.write(pathlib.Path("corpus"), takes=1), damages, packed, spoilt)
        speech_fingerprint(str(path.resolve()))
        splits.append(load_speech(str(path.resolve())))

    return Case(_words("speech", damages, packed, spoilt), call, lambda *_: _finite(splits[0]))


def images(random):
    """Images in a folder for each class."""
    damages, packed, spoilt = drawn(random, IMAGE_DAMAGES), choice(random, PACKED), _bytes(random)
    ending = choice(random, ["png", "jpg", "webp", "bmp", "gif"])
    stream = bool(random.random() < 0.3)

    def write():
        return pictures.write(pathlib.Path("set"), pictures.draw(ending=ending))

    words = _words(f"images, {ending}{', streamed' * stream}", damages, packed, spoilt)
    return _trained_on("folder", words, write, (damages, packed, spoilt), stream)


def table(random):
    """A CSV file for each split."""
    damages, packed, spoilt = drawn(random, TABLE_DAMAGES), choice(random, PACKED), _bytes(random)
    kind = choice(random, ["classes", *LABELS])
    words = _words(f"table, {kind}", damages, packed, spoilt)
    options, keys = LABELS.get(kind, ("", {}))

    def write():
        return _write_table(kind)

    return _trained_on("csv", words, write, (damages, packed, spoilt), keys=keys, options=options)


def prepared_set(random):
    """What ``tfds build`` leaves."""
    damages, stream = drawn(random, FILE_DAMAGES), bool(random.random() < 0.3)

    def write():
        from bench.prepared import prepare

        draw, labels = np.random.default_rng(0), np.arange(30) % 10
        pixels = draw.integers(0, 20, (30, 8, 8, 1)) + 20 * labels[:, None, None, None]
        splits = {"train": pixels.astype(np.uint8), "test": pixels[:20].astype(np.uint8)}
        prepare(pathlib.Path("."), splits, (8, 8, 1))
        return pathlib.Path("mnist")

    words = _words(f"TFDS{', streamed' * stream}", damages, "folder", None)
    return _trained_on("tfds", words, write, (damages, "folder", None), stream)


def _trained_on(scheme, words, write, about, stream=False, keys=None, options=""):
    def call():
        from kd.cli.main import main

        path = _laid_out(write(), *about)
        source = {"data__source": f"{scheme}:{path.name}{options}", "data__stream": stream}
        told = {**KEYS, **source, "data__train": "train", "data__eval": "test", **(keys or {})}
        return main(runs.kd("train", "--workdir=run", "--data_dir=.", **told))

    learns = not about[0] and about[2] is None
    return Case(words, call, lambda *_: trained(pathlib.Path("run"), learns))


def drawn(random, damages):
    """One or two of them, or none, each with its seed."""
    chosen = [choice(random, damages) for _ in range(int(choice(random, [0, 1, 1, 1, 2])))]
    return [(damage, int(random.integers(2**31))) for damage in chosen]


def _bytes(random):
    """The seed of what happens to the bytes of an archive, or None."""
    return int(random.integers(2**31)) if random.random() < 0.4 else None


def _words(what, damages, packed, spoilt):
    bytes_too = ["bytes"] * (spoilt is not None and packed != "folder")
    said = ", ".join([names([damage]) for damage, _ in damages] + bytes_too)
    return f"{what}, {packed}: {said or 'whole'}"


def _laid_out(folder, damages, packed, spoilt):
    for damage, seed in damages:
        damage(np.random.default_rng(seed), folder)
    path = _packed(folder, packed)
    if spoilt is not None and packed != "folder":
        draw = np.random.default_rng(spoilt)
        path.write_bytes(choice(draw, [cut, a_bit, bytes_between])(draw, path.read_bytes()))
    return path


def _finite(splits):
    features = [utterance.features for split in splits.values() for utterance in split]
    wrong = not features or not all(np.isfinite(clip).all() and len(clip) for clip in features)
    return ["features that are not finite"] if wrong else []


def _packed(folder, packed):
    if packed == "folder":
        return folder
    path = pathlib.Path(f"packed.{packed}")
    if packed == "zip":
        with zipfile.ZipFile(path, "w") as archive:
            for file in sorted(path for path in folder.rglob("*") if path.exists()):
                archive.write(file, file.relative_to(folder))
    else:
        with tarfile.open(path, "w:gz" if packed.endswith("gz") else "w") as archive:
            archive.add(folder, ".")
    return path


def _file(random, folder):
    return choice(random, sorted(path for path in folder.rglob("*") if path.is_file()))


def _a_file_cut(random, folder):
    path = _file(random, folder)
    path.write_bytes(cut(random, path.read_bytes()))


def _a_file_flipped(random, folder):
    path = _file(random, folder)
    path.write_bytes(a_bit(random, path.read_bytes()))


def _a_file_gone(random, folder):
    _file(random, folder).unlink()


def _a_file_that_is_none(random, folder):
    path = _file(random, folder)
    path.write_bytes(choice(random, [b"", b"RIFF", b"x" * 999, b"\0" * 44]))


def _a_file_that_is_a_folder(random, folder):
    path = _file(random, folder)
    path.unlink()
    path.mkdir()


def _a_file_that_is_a_link(random, folder):
    path = _file(random, folder)
    path.unlink()
    path.symlink_to(choice(random, ["nowhere", path.name, "/dev/null", "/"]))


def _an_odd_name(random, folder):
    path = _file(random, folder)
    name = choice(random, ["x.wav", "é.wav", "_NO_.wav", "a_NO_1.flac", ".wav", "a b_NO_1.wav"])
    path.rename(path.with_name(name))


def _an_odd_list(random, folder):
    path = folder / choice(random, ["validation_list.txt", "testing_list.txt"])
    odd = [b"", b"\xff\xfe", b"../x.wav\n", b"/etc/passwd\n", b"up\n", b"\0\n", b"up/x.wav\n" * 9]
    path.write_bytes(choice(random, [*odd, path.read_bytes() * 2 if path.exists() else b""]))


FILE_DAMAGES = [
    _a_file_cut,
    _a_file_flipped,
    _a_file_gone,
    _a_file_that_is_none,
    _a_file_that_is_a_folder,
    _a_file_that_is_a_link,
]
CORPUS_DAMAGES = [*FILE_DAMAGES, _an_odd_name, _an_odd_list]


def _another_picture(random, folder):
    shape = choice(random, [(6, 5), (7, 5, 3), (1, 1, 3), (6, 5, 4), (3000, 3000)])
    kind = choice(random, ["u1", "u1", "?", "u2"]) if len(shape) == 2 else "u1"
    content = pictures.encoded(np.ones(shape, kind))
    _file(random, folder).write_bytes(content)


def _a_class_of_an_odd_name(random, folder):
    path = _file(random, folder).parent
    odd = [".hidden", "é", "a b", "0", "-1", "x" * 200, "train", "ant "]
    path.rename(path.with_name(choice(random, odd)))


def _a_file_beside_them(random, folder):
    name = choice(random, ["x.txt", ".DS_Store", "train/x.png", "train/ant/x", "train/ant/x.PNG"])
    if (folder / name).parent.is_dir():
        (folder / name).write_bytes(choice(random, [b"", b"x", b"\x89PNG\r\n\x1a\n", b"GIF89a"]))


IMAGE_DAMAGES = [*FILE_DAMAGES, _another_picture, _a_class_of_an_odd_name, _a_file_beside_them]

CELLS = [
    *("", " ", "nan", "inf", "-inf", "1e400", "1e39", "1e-400", "0x1", "1_0", "1,5", "é", "x"),
    *("'", '"', '"a', "-1", "2.5", "9" * 400, "9" * 200_000, "=1+1", "\0", "true", "\u0661"),
]


LABELS = {
    "weighted": ("?weight=d", {}),
    "words": ("", {"data__class_weights": "{'bee': 2.0}"}),
    "yes or no": ("?label=label,d", {"data__targets": "binary", **of_loss("bce")}),
    "numbers": ("", {"data__targets": "numbers", **of_loss("mse")}),
}
"""What is said of a table beside its file: options of its source, keys of the run."""


def _write_table(kind):
    folder = pathlib.Path("set")
    folder.mkdir()
    draw, centres = np.random.default_rng(0), np.eye(3, 4)
    for split in ("train", "test"):
        labels = np.arange(60) % 3
        inputs = centres[labels] + draw.normal(size=(60, 4)) / 4
        inputs[:, 3] = labels % 2 if kind == "yes or no" else np.abs(inputs[:, 3])
        told = {"words": np.array(pictures.CLASSES)[labels], "yes or no": labels // 2}
        rows = zip(inputs.tolist(), told.get(kind, labels), strict=True)
        with (folder / f"{split}.csv").open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["a", "b", "c", "d", "label"])
            writer.writerows([*row, label] for row, label in rows)
    return folder


def _edited(random, folder, edit):
    """Change the cells of one of the files, where it is a table still."""
    paths = [path for path in sorted(folder.glob("*.csv")) if path.is_file()]
    path = choice(random, paths) if paths else folder
    with contextlib.suppress(OSError, ValueError):
        rows = [line.split(",") for line in path.read_text("utf-8").splitlines()]
        if rows:
            path.write_text("\n".join(",".join(row) for row in edit(rows)), "utf-8")


def _an_odd_cell(random, folder):
    def edit(rows):
        row = choice(random, [rows[0], *rows])
        row[int(random.integers(len(row)))] = choice(random, CELLS)
        return rows

    _edited(random, folder, edit)


def _an_odd_column(random, folder):
    odd = choice(random, CELLS)
    place = int(random.integers(5))
    _edited(random, folder, lambda rows: [[*r[:place], odd, *r[place + 1 :]] for r in rows])


def _a_row_of_another_width(random, folder):
    def edit(rows):
        place = int(random.integers(len(rows)))
        rows[place] = choice(random, [rows[place][:-1], [*rows[place], "1"], [], [""] * 5])
        return rows

    _edited(random, folder, edit)


def _few_rows(random, folder):
    count = int(choice(random, [0, 1, 2]))
    _edited(random, folder, lambda rows: rows[:count])


TABLE_DAMAGES = [
    *FILE_DAMAGES,
    *[_an_odd_cell] * 4,
    _an_odd_column,
    _a_row_of_another_width,
    _few_rows,
]
