"""Losses on layers and on whole batches again, in float64 NumPy, written from their formulas.

Each takes what student and teacher answer (``{"logits", "hidden" or "logit_map"}``), the heads, the
weights of the examples and the loss's numbers, and returns a value per example. Grids are walked
place by place.
"""

import itertools

import numpy as np

from reference import kl, softmax


def pooled(x, size):
    """Means over cells, cell by cell: ``[b *g c] -> [b *size c]``."""
    grid = x.shape[1:-1]
    out = np.zeros((len(x), *size, x.shape[-1]))
    for cell in np.ndindex(*size):
        slices = [
            slice(int(np.floor(i * n / m)), int(np.ceil((i + 1) * n / m)))
            for i, n, m in zip(cell, grid, size, strict=True)
        ]
        block = x[(slice(None), *slices)]
        out[(slice(None), *cell)] = block.reshape(len(x), -1, x.shape[-1]).mean(1)
    return out


def smaller(s, t):
    return tuple(min(pair) for pair in zip(s.shape[1:-1], t.shape[1:-1], strict=True))


def mapped(x, head, padded=True):
    """A linear map, or a convolution: the sum over the offsets of its kernel."""
    kernel, bias = (np.asarray(head[name], np.float64) for name in ("kernel", "bias"))
    if kernel.ndim == 2:
        return x @ kernel + bias
    size = kernel.shape[:-2]
    if padded:
        x = np.pad(x, [(0, 0), *((k // 2, k // 2) for k in size), (0, 0)])
    out = tuple(n - k + 1 for n, k in zip(x.shape[1:-1], size, strict=True))
    total = np.zeros((len(x), *out, kernel.shape[-1]))
    for offset in itertools.product(*map(range, size)):
        window = tuple(slice(o, o + n) for o, n in zip(offset, out, strict=True))
        total += x[(slice(None), *window)] @ kernel[offset]
    return total + bias


def relu(x):
    return np.maximum(x, 0)


def leaky(x):
    return np.where(x > 0, x, 0.1 * x)


def rows(x):
    return x.reshape(len(x), -1)


def at_length_one(x):
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def hidden_mse(s, t, heads, **_):
    return np.mean(rows(mapped(s["hidden"], heads.dropped) - t["hidden"]) ** 2, axis=1)


def hidden_cosine(s, t, heads, **_):
    own = mapped(s["hidden"], heads.dropped) if heads.dropped else s["hidden"]
    cosine = np.sum(at_length_one(own) * at_length_one(t["hidden"]), axis=-1)
    return np.mean(rows(1 - cosine), axis=1)


def attention_mse(s, t, **_):
    return np.mean(rows(s["relations"] - t["relations"]) ** 2, axis=1)


def minilm(s, t, **_):
    own, wanted = (softmax(x["relations"].reshape(-1, x["relations"].shape[-1])) for x in (s, t))
    return np.mean(kl(wanted, own).reshape(len(s["relations"]), -1), axis=1)


def pkd(s, t, heads, **_):
    own, wanted = s["hidden"][:, 0], t["hidden"][:, 0]
    own = mapped(own, heads.dropped) if heads.dropped else own
    return np.sum((at_length_one(own) - at_length_one(wanted)) ** 2, axis=-1)


def hint(s, t, heads, **_):
    return np.sum(rows(mapped(s["hidden"], heads.dropped, padded=False) - t["hidden"]) ** 2, 1) / 2


def simkd(s, t, heads, **_):
    size, own = smaller(s["hidden"], t["hidden"]), heads.exported
    x = relu(mapped(pooled(s["hidden"], size), own["reduce"]))
    x = mapped(relu(mapped(x, own["mix"])), own["expand"])
    return np.sum(rows(x - pooled(t["hidden"], size)) ** 2, axis=1)


def attention_transfer(s, t, **_):
    size = smaller(s["hidden"], t["hidden"])
    own, wanted = (
        at_length_one(rows(pooled(np.sum(x["hidden"] ** 2, -1, keepdims=True), size)))
        for x in (s, t)
    )
    return np.linalg.norm(own - wanted, axis=1) / 2


def nst(s, t, **_):
    size, values = smaller(s["hidden"], t["hidden"]), []
    for own, wanted in zip(pooled(s["hidden"], size), pooled(t["hidden"], size), strict=True):
        fs, ft = (at_length_one(x.reshape(-1, x.shape[-1]).T) for x in (own, wanted))
        kernels = [np.mean([(x @ y) ** 2 for x in a for y in b]) for a, b in _pairs(fs, ft)]
        values.append((kernels[0] + kernels[1] - 2 * kernels[2]) / 2)
    return np.array(values)


def _pairs(fs, ft):
    return (ft, ft), (fs, fs), (ft, fs)


def activation_boundary(s, t, heads, margin, **_):
    own = mapped(s["hidden"], heads.dropped)
    on = t["hidden"] > 0
    return np.sum(rows(on * relu(margin - own) ** 2 + ~on * relu(margin + own) ** 2), axis=1)


def ofd(s, t, heads, weight, **_):
    answers, own = t["hidden"], mapped(s["hidden"], heads.dropped)
    total, margin = np.zeros(own.shape), np.zeros(own.shape[-1])
    for c in range(own.shape[-1]):
        below = [(w, x) for w, row in zip(weight, answers[..., c], strict=True) for x in row.flat]
        below = [(w, x) for w, x in below if x < 0]
        before = np.asarray(heads.buffers["sum"])[c], np.asarray(heads.buffers["count"])[c]
        count = before[1] + sum(w for w, _ in below)
        margin[c] = (before[0] + sum(w * x for w, x in below)) / count if count else 0
    wanted = np.maximum(answers, margin)
    total = np.where((own <= wanted) & (wanted <= 0), 0, (wanted - own) ** 2)
    return np.sum(rows(total), axis=1)


def vid(s, t, heads, **_):
    own = heads.dropped
    x = relu(mapped(relu(mapped(s["hidden"], own["first"])), own["second"]))
    variance = np.log1p(np.exp(np.asarray(own["variance"], np.float64))) + 1e-5
    squared = (t["hidden"] - mapped(x, own["mean"])) ** 2
    return np.sum(rows(squared / (2 * variance) + np.log(variance) / 2), axis=1)


def mgd(s, t, heads, mask, **_):
    own = heads.dropped
    x = mapped(s["hidden"], own["align"]) * mask
    x = mapped(relu(mapped(x, own["first"])), own["second"])
    return np.sum(rows(x - t["hidden"]) ** 2, axis=1)


def factor_transfer(s, t, heads, fixed=None, **_):
    """`fixed`: the heads that make the factors to be met, which the first part does not train."""
    own, size = heads.dropped, smaller(s["hidden"], t["hidden"])
    answers = pooled(t["hidden"], size)
    met = leaky(mapped(answers, (fixed or heads).dropped["paraphrase"]))
    translated = leaky(mapped(pooled(s["hidden"], size), own["translate"]))
    apart = np.abs(at_length_one(rows(met)) - at_length_one(rows(translated))).sum(1)
    again = mapped(leaky(mapped(answers, own["paraphrase"])), own["again"])
    return apart + np.mean(rows(again - answers) ** 2, axis=1)


def review(s, t, heads, **_):
    values, deeper = 0, None
    for number in reversed(range(len(s["hidden"]))):
        own, wanted = heads.dropped[str(number)], t["hidden"][number]
        x = mapped(s["hidden"][number], own["into"])
        if deeper is not None:
            deeper = pooled(deeper, x.shape[1:-1])  # each place repeated
            share = 1 / (1 + np.exp(-mapped(np.concatenate([x, deeper], -1), own["fuse"])))
            x = share[..., :1] * x + share[..., 1:] * deeper
        deeper = x
        answer = mapped(pooled(x, wanted.shape[1:-1]), own["answer"])
        values = values + _hierarchical(answer, wanted)
    return values


def _hierarchical(answer, wanted):
    total, weights, weight = np.mean(rows(answer - wanted) ** 2, axis=1), 1.0, 1.0
    for cells in (4, 2, 1):
        size = (cells,) * (wanted.ndim - 2)
        if cells < min(wanted.shape[1:-1]):
            weight /= 2
            weights += weight
            total = total + weight * np.mean(
                rows(pooled(answer, size) - pooled(wanted, size)) ** 2, 1
            )
    return total / weights


def sdd(s, t, temperature, beta, **_):
    smallest, values = min(smaller(s["logit_map"], t["logit_map"])), 0
    whole = t["logit_map"].reshape(len(t["logit_map"]), -1, 6).mean(1).argmax(-1)
    for scale in (1, 2, 4):
        if scale > smallest:
            break
        cs, ct = (pooled(x["logit_map"], (scale, scale)).reshape(len(whole), -1, 6) for x in (s, t))
        weight = np.where(ct.argmax(-1) == whole[:, None], 1, beta)
        each = kl(softmax(ct, temperature), softmax(cs, temperature))
        values = values + temperature**2 * np.sum(weight * each, axis=1)
    return values


def _correlation(a, b, weight):
    """Pearson's, where entry i counts `weight[i]` times."""
    a, b = a - np.average(a, weights=weight), b - np.average(b, weights=weight)
    return np.sum(weight * a * b) / np.sqrt(np.sum(weight * a**2) * np.sum(weight * b**2))


def dist_mean(s, t, weight, temperature, beta, gamma, **_):
    """The paper's value of a batch: this loss is compared by its mean."""
    q, p = (softmax(x["logits"], temperature) for x in (s, t))
    even = np.ones(q.shape[1])
    inter = [1 - _correlation(a, b, even) for a, b in zip(q, p, strict=True)]
    intra = [1 - _correlation(q[:, j], p[:, j], weight) for j in range(q.shape[1])]
    return beta * np.average(inter, weights=weight) + gamma * np.mean(intra)


def mlkd_mean(s, t, weight, **_):
    total = 0
    for temperature in (2, 3, 4, 5, 6):
        q, p = (softmax(x["logits"], temperature) for x in (s, t))
        instances = temperature**2 * np.average(kl(p, q), weights=weight)
        squares = (p @ p.T - q @ q.T) ** 2
        batches = sum(
            weight[i] * weight[j] * squares[i, j] for i, j in np.ndindex(*squares.shape)
        ) / np.sum(weight)
        classes = sum(
            w * (np.outer(a, a) - np.outer(b, b)) for w, a, b in zip(weight, p, q, strict=True)
        )
        total += instances + batches + np.sum(classes**2) / q.shape[1]
    return total
