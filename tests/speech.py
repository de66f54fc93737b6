"""A tiny corpus in the Speech Commands layout: words are pairs of tones, speakers differ in pitch
and loudness.
"""

import numpy as np
import soundfile

RATE = 8000
WORDS = {"up": (500, 900), "down": (1500, 1100), "stop": (2300, 3100)}  # Hz, first and second half
SPEAKERS = {"train": 4, "validation": 2, "test": 2}
LISTS = {"validation": "validation_list.txt", "test": "testing_list.txt"}


def tones(word, random, seconds=0.6):
    """A word between two stretches of noise."""
    pitch, begin, length = (
        random.uniform(0.95, 1.05),
        random.uniform(0.1, 0.2),
        random.uniform(0.2, 0.3),
    )
    t = np.arange(int(seconds * RATE)) / RATE
    tone = np.where(
        t < begin + length / 2, *(np.sin(2 * np.pi * pitch * f * t) for f in WORDS[word])
    )
    sound = random.normal(0, 0.003, len(t)) + random.uniform(0.2, 0.4) * tone * (
        (t >= begin) & (t < begin + length)
    )
    return (2**15 * sound).astype(np.int16)  # what both formats store


def write(folder, *, takes=4, extension="wav"):
    """The corpus as a folder: for each split, its speakers say every word `takes` times."""
    random, number = np.random.default_rng(0), 0
    for split, speakers in SPEAKERS.items():
        listed = []
        for _ in range(speakers):
            number += 1
            for word in WORDS:
                (folder / word).mkdir(parents=True, exist_ok=True)
                for take in range(takes):
                    name = f"{word}/{number:08d}_NO_{take:02d}.{extension}"
                    soundfile.write(folder / name, tones(word, random), RATE)
                    listed.append(name)
        if split in LISTS:
            (folder / LISTS[split]).write_text("\n".join(listed) + "\n")
    (folder / "_background_noise_").mkdir()
    soundfile.write(
        folder / "_background_noise_" / "hum.wav", random.normal(0, 0.01, RATE), 2 * RATE
    )
    return folder
