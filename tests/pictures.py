"""Small image folders, drawn at random: ``split/class/number.ending``."""

import io
import zipfile

import numpy as np
from PIL import Image

CLASSES = ("ant", "bee", "cow")


def encoded(pixels, ending="png", **options):
    """The bytes of an image file."""
    file = io.BytesIO()
    form = {"jpg": "jpeg"}.get(ending, ending)
    lossless = {"lossless": True} if ending == "webp" else {}
    picture = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    picture.save(file, form, **lossless, **options)
    return file.getvalue()


def draw(splits=None, shape=(6, 5, 3), dtype=np.uint8, ending="png", seed=0):
    """File contents by name; brightness follows the class."""
    random, files = np.random.default_rng(seed), {}
    for split, count in (splits or {"train": 8, "test": 3}).items():
        for place, word in enumerate(CLASSES):
            for i in range(count):
                low = np.iinfo(dtype).max // 4 * place
                pixels = random.integers(low, low + np.iinfo(dtype).max // 4, shape).astype(dtype)
                files[f"{split}/{word}/{i:03d}.{ending}"] = encoded(pixels, ending)
    return files


def write(path, files):
    """The files as a folder, or as a zip where the name says so."""
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w") as archive:
            for name, content in files.items():
                archive.writestr(name, content)
        return path
    for name, content in files.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(content)
    return path
