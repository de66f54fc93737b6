"""Independent references: every loss of relations again in float64 NumPy, pair by pair, written
from its formula and not from `kd`. Each takes the taps of both sides and answers with a value
per row.
"""

import itertools
import math

import numpy as np


def huber(x, y):
    return 0.5 * (x - y) ** 2 if abs(x - y) <= 1 else abs(x - y) - 0.5


def _rows(taps):
    hidden = np.asarray(taps["hidden"], np.float64)
    return hidden.reshape(len(hidden), -1)


def _cosine(x, y):
    lengths = np.linalg.norm(x) * np.linalg.norm(y)
    return x @ y / lengths if lengths else 0.0


def _rkd_distance(student, teacher):
    sides, count = [_rows(student), _rows(teacher)], len(student["hidden"])
    pairs = list(itertools.permutations(range(count), 2))
    apart = [{p: np.linalg.norm(x[p[0]] - x[p[1]]) for p in pairs} for x in sides]
    means = [sum(d.values()) / len(pairs) for d in apart]
    values = np.zeros(count)
    for i, j in pairs:
        values[i] += huber(*(d[i, j] / mean for d, mean in zip(apart, means, strict=True)))
    return values * count / len(pairs)


def _rkd_angle(student, teacher):
    sides, count = [_rows(student), _rows(teacher)], len(student["hidden"])
    triples = list(itertools.permutations(range(count), 3))
    values = np.zeros(count)
    for i, j, k in triples:
        values[j] += huber(*(_cosine(x[i] - x[j], x[k] - x[j]) for x in sides))
    return values * count / len(triples)


def _similarity_preserving(student, teacher):
    matrices = [x @ x.T for x in (_rows(student), _rows(teacher))]
    own, taught = (m / np.linalg.norm(m, axis=1, keepdims=True) for m in matrices)
    return np.sum((own - taught) ** 2, axis=1) / len(own)


def _correlation_congruence(student, teacher, gamma):
    def kernel(x, y):
        cosine = _cosine(x, y)
        series = [(2 * gamma) ** p / math.factorial(p) * cosine**p for p in (0, 1, 2)]
        return math.exp(-2 * gamma) * sum(series)

    own, taught = (
        np.array([[kernel(x, y) for y in side] for x in side])
        for side in (_rows(student), _rows(teacher))
    )
    return np.sum((own - taught) ** 2, axis=1) / len(own)


def _pkt(student, teacher):
    def neighbours(side):
        kernel = np.array([[(_cosine(x, y) + 1) / 2 for y in side] for x in side])
        np.fill_diagonal(kernel, 0)
        return kernel / kernel.sum(axis=1, keepdims=True)

    q, p = neighbours(_rows(student)), neighbours(_rows(teacher))
    others = ~np.eye(len(p), dtype=bool)
    logs = np.log(np.where(others, p, 1) / np.where(others, q, 1))
    return np.sum(p * logs, axis=1)


def _places(features):
    features = np.asarray(features, np.float64)
    return features.reshape(len(features), -1, features.shape[-1])


def _fsp(student, teacher):
    def flow(taps):
        first, second = (np.asarray(taps[name], np.float64) for name in ("first", "second"))
        cells = first.shape[1] // second.shape[1]  # here the first grid is the finer
        n, h, w, _ = second.shape
        pooled = first.reshape(n, h, cells, w, cells, first.shape[-1]).max(axis=(2, 4))
        return np.einsum("nhwi,nhwj->nij", pooled, second) / (h * w)

    return np.sum((flow(student) - flow(teacher)) ** 2, axis=(1, 2))


def _gram(student, teacher):
    own, taught = (_places(taps["hidden"]) for taps in (student, teacher))
    matrices = [np.einsum("nxi,nxj->nij", f, f) / f.shape[1] for f in (own, taught)]
    return np.sum((matrices[0] - matrices[1]) ** 2, axis=(1, 2)) / (4 * own.shape[-1] ** 2)


def _icc(student, teacher):
    own, taught = (_places(taps["hidden"]) for taps in (student, teacher))
    matrices = [np.einsum("nxi,nxj->nij", f, f) for f in (own, taught)]
    return np.mean((matrices[0] - matrices[1]) ** 2, axis=(1, 2))


LOSSES = {
    "correlation_congruence": _correlation_congruence,
    "fsp": _fsp,
    "gram": _gram,
    "icc": _icc,
    "pkt": _pkt,
    "rkd_angle": _rkd_angle,
    "rkd_distance": _rkd_distance,
    "similarity_preserving": _similarity_preserving,
}


def _sigmoid(x):
    return 1 / (1 + np.exp(-x))


def crd(own, memories, index, tau, negatives, momentum):
    """The values of `crd` of embeddings ``{side: [b e]}`` of length 1, pair by pair, and the
    memories ``{side: [M e]}`` after them. A row of zeros was not seen yet.
    """
    count = len(memories["teacher"])
    seen = [j for j in range(count) if memories["teacher"][j].any()]
    values = []
    for i, s, t in zip(index, own["student"], own["teacher"], strict=True):
        h = lambda x, y: _sigmoid(x @ y / tau - np.log(negatives / count))  # noqa: E731
        others = [j for j in seen if j != i]
        rejected = [
            np.log(1 - h(memories["teacher"][j], s)) + np.log(1 - h(t, memories["student"][j]))
            for j in others
        ]
        mean = np.mean(rejected) if others else 0.0
        values.append(-np.log(h(t, s)) - negatives / 2 * mean)
    later = {side: memory.copy() for side, memory in memories.items()}
    for side, memory in later.items():
        moved = momentum * memory[index] + (1 - momentum) * own[side]
        memory[index] = moved / np.linalg.norm(moved, axis=1, keepdims=True)
    return np.array(values), later


def gradient(name, student, teacher, numbers, tap, step=1e-6):
    """Central differences of the mean over rows with respect to the student's `tap`."""
    features = np.asarray(student[tap], np.float64)
    slope = np.zeros_like(features)
    for place in np.ndindex(features.shape):
        ends = []
        for sign in (1, -1):
            moved = features.copy()
            moved[place] += sign * step
            ends.append(np.mean(LOSSES[name]({**student, tap: moved}, teacher, **numbers)))
        slope[place] = (ends[0] - ends[1]) / (2 * step)
    return slope
