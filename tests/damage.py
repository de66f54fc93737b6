"""Damage to the bytes of a file, everywhere in it: flipped, cut off, swapped."""

import numpy as np


def damaged(content, seed=0, most=160):
    """`content` with one fault each, at places all over it."""
    random = np.random.default_rng(seed)
    count = min(most, len(content))
    for place in np.linspace(0, len(content) - 1, count).astype(int).tolist():
        flipped = bytearray(content)
        flipped[place] ^= int(random.integers(1, 256))
        yield f"flip {place}", bytes(flipped)
    for place in np.linspace(0, len(content) - 1, count // 2).astype(int).tolist():
        yield f"cut {place}", content[:place]
    for _ in range(count // 4):
        length = int(random.integers(1, 1 + len(content) // 8))
        start, other = random.integers(0, len(content) - length, 2).tolist()
        swapped = bytearray(content)
        swapped[start : start + length] = content[other : other + length]
        swapped[other : other + length] = content[start : start + length]
        yield f"swap {start} {other} {length}", bytes(swapped)
