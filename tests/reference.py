"""Independent references: every loss again in float64 NumPy, written from its formula and not from
`kd`.
"""

import hypothesis.extra.numpy as hnp
import hypothesis.strategies as st
import numpy as np

POSITIONS, CLASSES = 4, 6


def logits(bound=8.0, shape=(POSITIONS, CLASSES)):
    """Strategy: logits of a fixed shape, so that nothing is compiled twice."""
    return hnp.arrays(np.float32, shape, elements=st.floats(-bound, bound, width=32))


def labels(targets=None):
    """Strategy: classes; or chances, or numbers, of every output."""
    if targets in (None, "classes"):
        return hnp.arrays(np.int32, POSITIONS, elements=st.integers(0, CLASSES - 1))
    bounds = (0, 1) if targets == "binary" else (-8, 8)
    elements = st.floats(*bounds, width=32)
    return hnp.arrays(np.float32, (POSITIONS, CLASSES), elements=elements)


def log_softmax(z, temperature=1.0):
    z = np.asarray(z, np.float64) / temperature
    return z - np.log(np.sum(np.exp(z), axis=-1, keepdims=True))


def softmax(z, temperature=1.0):
    return np.exp(log_softmax(z, temperature))


def kl(p, q):
    """KL(p || q) of probabilities."""
    return np.sum(p * np.log(p / q), axis=-1)


def _hard(zs, zt, y):
    return -log_softmax(zs)[np.arange(len(y)), y]


def _label_smoothing(zs, zt, y, smoothing):
    classes = zs.shape[-1]
    target = np.eye(classes)[y] * (1 - smoothing) + smoothing / classes
    return -np.sum(target * log_softmax(zs), axis=-1)


def _soft_targets(zs, zt, y, temperature):
    return temperature**2 * kl(softmax(zt, temperature), softmax(zs, temperature))


def _kl(zs, zt, y, temperature):
    return kl(softmax(zt, temperature), softmax(zs, temperature))


def _reverse_kl(zs, zt, y, temperature):
    return kl(softmax(zs, temperature), softmax(zt, temperature))


def _jsd(zs, zt, y, temperature, beta):
    p, q = softmax(zt, temperature), softmax(zs, temperature)
    m = beta * p + (1 - beta) * q
    return beta * kl(p, m) + (1 - beta) * kl(q, m)


def _logit_mse(zs, zt, y):
    d = np.asarray(zs, np.float64) - np.asarray(zt, np.float64)
    return np.var(d, axis=-1) / 2


def sigmoid(z, temperature=1.0):
    return 1 / (1 + np.exp(-np.asarray(z, np.float64) / temperature))


def _bce(zs, zt, y):
    q = sigmoid(zs)
    return -np.sum(y * np.log(q) + (1 - y) * np.log(1 - q), axis=-1)


def _soft_bce(zs, zt, y, temperature):
    p, q = sigmoid(zt, temperature), sigmoid(zs, temperature)
    each = p * np.log(p / q) + (1 - p) * np.log((1 - p) / (1 - q))
    return temperature**2 * np.sum(each, axis=-1)


def _mse(zs, zt, y):
    return np.mean((np.asarray(zs, np.float64) - y) ** 2, axis=-1)


def _soft_mse(zs, zt, y):
    return _mse(zs, None, np.asarray(zt, np.float64))


def _apart(distribution, y):
    """Chances (label, any other), and the distribution over the others; the label has none."""
    label = np.eye(distribution.shape[-1])[y] > 0
    mine = distribution[label][:, None]
    others = np.where(label, 0, distribution)
    return np.concatenate([mine, 1 - mine], -1), others / (1 - mine)


def _others_kl(p, q, y):
    label = np.eye(p.shape[-1])[y] > 0
    return np.sum(np.where(label, 0, p * np.log(np.where(label, 1, p) / np.where(label, 1, q))), -1)


def _dkd(zs, zt, y, temperature, beta):
    (bt, p), (bs, q) = (_apart(softmax(z, temperature), y) for z in (zt, zs))
    return temperature**2 * (kl(bt, bs) + beta * _others_kl(p, q, y))


def _nkd(zs, zt, y, temperature, gamma):
    mine = np.arange(len(y)), y
    (_, p), (_, q) = (_apart(softmax(z, temperature), y) for z in (zt, zs))
    label = np.eye(p.shape[-1])[y] > 0
    others = -np.sum(p * np.log(np.where(label, 1, q)), axis=-1)
    return -softmax(zt)[mine] * log_softmax(zs)[mine] + gamma * temperature**2 * others


def _ofa(zs, zt, y, gamma):
    label = np.eye(zs.shape[-1])[y]
    p, log_q = softmax(zt), log_softmax(zs)
    target = np.where(label > 0, (1 + p) ** gamma, p)
    return -np.sum(target * log_q, axis=-1)


def standardised(z):
    z = np.asarray(z, np.float64)
    return (z - z.mean(-1, keepdims=True)) / z.std(-1, keepdims=True)


def _logit_standardized(zs, zt, y, temperature):
    return _soft_targets(standardised(zs), standardised(zt), y, temperature)


def _logit_cosine(zs, zt, y):
    return 1 - np.array([np.corrcoef(a, b)[0, 1] for a, b in zip(zs, zt, strict=True)])


def _ttm(zs, zt, y, temperature):
    return kl(softmax(zt, temperature), softmax(zs))


def _wttm(zs, zt, y, temperature):
    return np.sum(softmax(zt) ** (1 / temperature), -1) * _ttm(zs, zt, y, temperature)


LOSSES = {
    "bce": _bce,
    "dkd": _dkd,
    "hard": _hard,
    "jsd": _jsd,
    "kl": _kl,
    "label_smoothing": _label_smoothing,
    "logit_cosine": _logit_cosine,
    "logit_mse": _logit_mse,
    "logit_standardized": _logit_standardized,
    "mse": _mse,
    "nkd": _nkd,
    "ofa": _ofa,
    "reverse_kl": _reverse_kl,
    "soft_bce": _soft_bce,
    "soft_mse": _soft_mse,
    "soft_targets": _soft_targets,
    "ttm": _ttm,
    "wttm": _wttm,
}


def _q_p(zs, zt, temperature):
    return softmax(zs, temperature), softmax(zt, temperature)


def _hard_gradient(zs, zt, y):
    return softmax(zs) - np.eye(zs.shape[-1])[y]


def _kl_gradient(zs, zt, y, temperature):
    q, p = _q_p(zs, zt, temperature)
    return (q - p) / temperature


def _reverse_kl_gradient(zs, zt, y, temperature):
    q, p = _q_p(zs, zt, temperature)
    return q * (np.log(q / p) - kl(q, p)[:, None]) / temperature


def _jsd_gradient(zs, zt, y, temperature, beta):
    q, p = _q_p(zs, zt, temperature)
    m = beta * p + (1 - beta) * q
    return (1 - beta) / temperature * q * (np.log(q / m) - kl(q, m)[:, None])


def _soft_targets_gradient(zs, zt, y, temperature):
    q, p = _q_p(zs, zt, temperature)
    return temperature * (q - p)


def _label_smoothing_gradient(zs, zt, y, smoothing):
    return softmax(zs) - (1 - smoothing) * np.eye(zs.shape[-1])[y] - smoothing / zs.shape[-1]


def _logit_mse_gradient(zs, zt, y):
    d = np.asarray(zs, np.float64) - np.asarray(zt, np.float64)
    return (d - d.mean(axis=-1, keepdims=True)) / zs.shape[-1]


def _bce_gradient(zs, zt, y):
    return sigmoid(zs) - y


def _soft_bce_gradient(zs, zt, y, temperature):
    return temperature * (sigmoid(zs, temperature) - sigmoid(zt, temperature))


def _mse_gradient(zs, zt, y):
    return 2 * (np.asarray(zs, np.float64) - y) / zs.shape[-1]


def _soft_mse_gradient(zs, zt, y):
    return _mse_gradient(zs, None, np.asarray(zt, np.float64))


def _dkd_gradient(zs, zt, y, temperature, beta):
    (bt, p), (bs, q) = (_apart(softmax(z, temperature), y) for z in (zt, zs))
    label, surer = np.eye(zs.shape[-1])[y] > 0, (bs - bt)[:, :1]
    return temperature * np.where(label, surer, beta * (q - p) - surer * q)


def _nkd_gradient(zs, zt, y, temperature, gamma):
    label, others = (
        np.eye(zs.shape[-1])[y],
        [_apart(softmax(z, temperature), y)[1] for z in (zs, zt)],
    )
    sure = np.sum(label * softmax(zt), axis=-1, keepdims=True)
    return sure * (softmax(zs) - label) + gamma * temperature * (others[0] - others[1])


def _ofa_gradient(zs, zt, y, gamma):
    label, p = np.eye(zs.shape[-1])[y], softmax(zt)
    target = np.where(label > 0, (1 + p) ** gamma, p)
    return softmax(zs) * target.sum(-1, keepdims=True) - target


def _logit_standardized_gradient(zs, zt, y, temperature):
    unit, deviation = standardised(zs), np.std(zs.astype(np.float64), -1, keepdims=True)
    d = softmax(unit, temperature) - softmax(standardised(zt), temperature)
    return temperature / deviation * (d - unit * np.mean(d * unit, -1, keepdims=True))


def _logit_cosine_gradient(zs, zt, y):
    own, deviation = standardised(zs), np.std(zs.astype(np.float64), -1, keepdims=True)
    wanted = standardised(zt)
    correlation = np.mean(own * wanted, -1, keepdims=True)
    return (correlation * own - wanted) / (zs.shape[-1] * deviation)


def _ttm_gradient(zs, zt, y, temperature):
    return softmax(zs) - softmax(zt, temperature)


def _wttm_gradient(zs, zt, y, temperature):
    power = np.sum(softmax(zt) ** (1 / temperature), -1, keepdims=True)
    return power * _ttm_gradient(zs, zt, y, temperature)


GRADIENTS = {  # the gradients that docs/losses.md states
    "bce": _bce_gradient,
    "dkd": _dkd_gradient,
    "hard": _hard_gradient,
    "jsd": _jsd_gradient,
    "kl": _kl_gradient,
    "label_smoothing": _label_smoothing_gradient,
    "logit_cosine": _logit_cosine_gradient,
    "logit_mse": _logit_mse_gradient,
    "logit_standardized": _logit_standardized_gradient,
    "mse": _mse_gradient,
    "nkd": _nkd_gradient,
    "ofa": _ofa_gradient,
    "reverse_kl": _reverse_kl_gradient,
    "soft_bce": _soft_bce_gradient,
    "soft_mse": _soft_mse_gradient,
    "soft_targets": _soft_targets_gradient,
    "ttm": _ttm_gradient,
    "wttm": _wttm_gradient,
}


def gradient(name, zs, zt, y, numbers, step=1e-5):
    """Central differences of the sum over positions with respect to the student's logits."""
    zs = np.asarray(zs, np.float64)
    columns = []
    for i in range(zs.shape[-1]):
        nudge = step * np.eye(zs.shape[-1])[i]
        up, down = (LOSSES[name](zs + sign * nudge, zt, y, **numbers) for sign in (1, -1))
        columns.append((up - down) / (2 * step))
    return np.stack(columns, axis=-1)
