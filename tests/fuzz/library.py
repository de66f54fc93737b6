"""Calls of the library with odd arguments."""

import numpy as np

from fuzz.oracle import Case
from fuzz.values import choice

ODD = [
    *(None, True, False, 0, 1, 2, -1, 2**31, 2**70, 10**400, 0.5, -0.5, 1e308, float("nan")),
    *(float("inf"), 1j, "", "x", "\0", b"x", (), (1,), [], [1, "a"], [[1], [1, 2]], {}, {1: 2}),
    *({(1, 2): 3}, {None: 1}, {1, 2}, range(3), object(), object, len, ..., slice(1)),
]


def case(random, bases):
    """A call that is well-formed, with one or two of its arguments odd, or none."""
    make = choice(random, CALLS)
    name, arguments = make(random, bases)
    names = sorted(arguments)
    odd = {}
    for _ in range(int(choice(random, [0, 1, 1, 1, 1, 2]))):
        odd[choice(random, names)] = choice(random, [*ODD, *ARRAYS])
    words = ", ".join(f"{key}={_short(value)}" for key, value in odd.items())
    results: list = []

    def call():
        results.append(_function(name)(**{**arguments, **odd}))

    return Case(f"{name}({words})", call, lambda *_: _wrongs(name, results[0], not odd))


def _short(value):
    if isinstance(value, np.ndarray):
        return f"{value.dtype}{list(value.shape)}"
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:30]}…"


def _function(name):
    import kd

    functions = {"kd.fit": _fit, "kd.Trained.teacher": _teacher, "kd.Trained.logits": _logits}
    functions |= {"kd.precompute": _precompute, "kd.audit": _audit}
    return functions.get(name) or getattr(kd, name.removeprefix("kd."))


def _arrays_of(*shapes):
    random = np.random.default_rng(0)
    return [random.normal(size=shape) for shape in shapes]


ARRAYS = [
    *_arrays_of((), (0,), (0, 4), (7,), (64,), (64, 16), (63, 4, 4), (1, 4, 4), (64, 4, 4, 3)),
    np.full((64, 4, 4), np.nan),
    np.zeros((64, 4, 4), bool),
    np.zeros((64, 4, 4), complex),
    np.full((64, 4, 4), "a"),
    np.full((64, 4, 4), None),
    np.zeros((64, 4, 4), "M8[s]"),
    np.zeros(64, [("a", "i4"), ("b", "f4")]),
    np.arange(64),
    np.arange(64) - 1,
    np.full(64, 2**40),
    np.ma.masked_array(np.zeros((64, 4, 4)), mask=True),
    np.zeros((64, 4, 4), ">f4"),
    np.zeros((64, 4, 4), np.longdouble),
    np.full((64, 4, 4), 1e38),
]


def _inputs():
    labels = np.arange(64) % 5
    centres = np.random.default_rng(1).normal(size=(5, 4, 4))
    noise = np.random.default_rng(2).normal(size=(64, 4, 4)) / 4
    return (centres[labels] + noise).astype(np.float32), labels


def _data():
    import kd

    return kd.arrays(*_inputs())


def _model():
    from kd.models import MODELS

    return MODELS["mlp"](classes=5, widths=(4,))


def _trained():
    import kd

    return kd.fit(_model(), _data(), [kd.term("hard")], epochs=1, batch_size=32)


def _is_usual(value):
    return isinstance(value, str) and value == "usual"


def _fit(**arguments):
    import kd

    usual = {"model": _model(), "data": _data(), "terms": [kd.term("hard")]}
    missing = {key: value for key, value in usual.items() if _is_usual(arguments[key])}
    if _is_usual(arguments.get("teacher")):
        missing["teacher"] = _trained().teacher()
    if _is_usual(arguments.get("validation")):
        missing["validation"] = _data()
    return kd.fit(**{**arguments, **missing})


def _teacher(**arguments):
    return _trained().teacher(**arguments)


def _logits(data):
    return _trained().logits(_data() if _is_usual(data) else data)


def _precompute(teacher, data):
    import kd

    if _is_usual(teacher):
        teacher = _trained().teacher()
    return kd.precompute(teacher, _data() if _is_usual(data) else data)


def _call_fit(random, bases):
    import kd

    usual = dict.fromkeys(("model", "data", "terms"), "usual")
    numbers = {"epochs": 10, "batch_size": 32, "learning_rate": 0.3, "seed": 1}
    more = {
        "accumulate": 2,
        "ema": 0.5,
        "population": {"seed": (0, 1)},
        "learning_rate_schedule": kd.Schedule("cosine"),
        "mesh": kd.MeshSpec(devices=1),
        "sharding": kd.Sharding(),
        "optimizer": None,
        "view": kd.jitter(1),
        "teacher": "usual",
        "validation": "usual",
        "title": "fit",
    }
    chosen = random.choice(sorted(more), 3, replace=False)
    return "kd.fit", {**usual, **numbers, **{key: more[key] for key in chosen}}


def _call_arrays(random, bases):
    inputs, labels = _inputs()
    usual = {"inputs": inputs, "labels": labels, "num_classes": 5, "scale": 1.0}
    windowed = {"starts": np.arange(10), "window": 3, "labels": labels[:10]}
    return "kd.arrays", {**usual, **(windowed if random.random() < 0.3 else {})}


def _call_term(random, bases):
    usual = {"loss": "soft_targets", "weight": 0.5, "temperature": 2.0, "name": "soft"}
    return "kd.term", usual


def _call_product(random, bases):
    return "kd.product", {"seed": range(3), "learning_rate": (0.1, 0.2)}


def _call_load(random, bases):
    return "kd.load", {"source": "digits", "split": "train[:50]", "data_dir": None}


def _call_of_classes(random, bases):
    return "kd.of_classes", {"data": _data(), "classes": (0, 1)}


def _call_jitter(random, bases):
    return "kd.jitter", {"pixels": 1}


def _call_schedule(random, bases):
    return "kd.Schedule", {"shape": "linear", "warmup_percent": 5.0}


def _call_load_trained(random, bases):
    return "kd.load_trained", {"path": bases["hard"]}


def _call_teacher(random, bases):
    return "kd.Trained.teacher", {"average": "arithmetic", "pairs": None}


def _call_logits(random, bases):
    return "kd.Trained.logits", {"data": "usual"}


def _call_precompute(random, bases):
    return "kd.precompute", {"teacher": "usual", "data": "usual"}


def _audit(**arguments):
    import kd

    usual = {"teacher": _trained(), "student": _trained(), "data": _data()}
    return kd.audit(
        **{key: usual[key] if _is_usual(arguments[key]) else arguments[key] for key in usual}
    )


def _call_audit(random, bases):
    return "kd.audit", {"teacher": "usual", "student": "usual", "data": "usual"}


CALLS = [
    *[_call_fit] * 6,
    *[_call_arrays] * 4,
    _call_term,
    _call_product,
    _call_load,
    _call_of_classes,
    _call_jitter,
    _call_schedule,
    _call_load_trained,
    _call_teacher,
    _call_logits,
    _call_precompute,
    _call_audit,
]


def _wrongs(name, result, usual):
    """A model that was trained answers finite numbers and has moved; the usual one has learnt."""
    if name == "kd.arrays":
        return [] if np.isfinite(result.first).all() else ["inputs that are not finite"]
    if name != "kd.fit":
        return []
    import jax

    leaves = jax.tree.leaves(result.params)
    wrongs = [] if all(np.isfinite(leaf).all() for leaf in leaves) else ["not finite"]
    if usual and wrongs == []:
        right = np.mean(np.argmax(result.logits(_data()), -1) == _inputs()[1])
        wrongs += [] if right > 0.2 + 3 * np.sqrt(0.2 * 0.8 / 64) else [f"accuracy {right}"]
    return wrongs
