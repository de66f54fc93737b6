"""Calls of the library with odd arguments."""

import numpy as np

from fuzz import usual
from fuzz.oracle import Case
from fuzz.usual import Later, terms_of
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
        value = choice(random, [*ODD, *ARRAYS])
        if name != "kd.teacher" or not callable(value):  # what a function raises is its own
            odd[choice(random, names)] = value
    words = ", ".join(f"{key}={_short(value)}" for key, value in odd.items())
    results: list = []

    def call():
        results.append(_function(name)(**usual.made({**arguments, **odd})))

    return Case(f"{name}({words})", call, lambda *_: _wrongs(name, results[0], not odd))


def _short(value):
    if isinstance(value, np.ndarray):
        return f"{value.dtype}{list(value.shape)}"
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:30]}…"


def _function(name):
    """``kd.function``, or ``kd.Trained.method`` of a model or a population of two."""
    import kd

    _, _, method = name.rpartition("kd.Trained.")
    if method == name:
        return getattr(kd, name.removeprefix("kd."))
    trained = usual.a_population() if method == "member" else usual.a_trained()
    return getattr(trained, method)


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


def _call_fit(random, bases):
    import kd

    always = {"model": Later(usual.a_model), "data": DATA, "terms": terms_of("hard")}
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
        "teacher": Later(usual.a_teacher),
        "validation": DATA,
        "title": "fit",
        "init": Later(usual.a_trained),
        "freeze": ("Dense_0/*",),
    }
    chosen = random.choice(sorted(more), 3, replace=False)
    return "kd.fit", {**always, **numbers, **{key: more[key] for key in chosen}}


def _call_fit_of_other_labels(random, bases):
    data, terms = choice(random, OF_LABELS)
    always = {"model": Later(usual.a_model), "data": Later(data), "terms": terms}
    return "kd.fit", {**always, "epochs": 5, "batch_size": 32, "learning_rate": 0.1}


def _call_fit_of_other_teachers(random, bases):
    teacher = choice(random, [usual.a_table, usual.a_mixture])
    always = {"model": Later(usual.a_model), "data": DATA, "teacher": Later(teacher)}
    numbers = {"epochs": 10, "batch_size": 32, "learning_rate": 0.3}
    return "kd.fit", {**always, "terms": terms_of("soft_targets"), **numbers}


def _call_fit_with_patience(random, bases):
    always = {"model": Later(usual.a_model), "data": DATA, "terms": terms_of("hard")}
    patience = {"validation": DATA, "patience": 2, "watch": "nll"}
    return "kd.fit", {**always, "epochs": 10, "batch_size": 32, "learning_rate": 0.3, **patience}


def _call_arrays(random, bases):
    inputs, labels = usual.some_inputs()
    always = {"inputs": inputs, "labels": labels, "num_classes": 5, "scale": 1.0}
    windowed = {"starts": np.arange(10), "window": 3, "labels": labels[:10]}
    weighted = {"weights": 1.0 + labels, "class_names": tuple("abcde"), "targets": "classes"}
    return "kd.arrays", {**always, **choice(random, [{}, windowed, weighted])}


def _call_arrays_of_ids(random, bases):
    tokens = np.arange(40).reshape(10, 4) % 7
    shape = {"ids": True, "positions": (4,), "weights": np.ones((10, 4))}
    return "kd.arrays", {"inputs": tokens, "labels": tokens % 3, **shape}


def _call_term(random, bases):
    losses = ["soft_targets", "soft_bce", "kl", "reverse_kl"]
    always = {"weight": 0.5, "temperature": 2.0, "name": "soft"}
    return "kd.term", {"loss": choice(random, losses), **always}


def _call_product(random, bases):
    return "kd.product", {"seed": range(3), "learning_rate": (0.1, 0.2)}


def _call_load(random, bases):
    return "kd.load", {"source": "digits", "split": "train[:50]", "data_dir": None}


def _call_load_saved(random, bases):
    return "kd.load", {"source": Later(usual.a_saved), "model": None}


def _call_of_classes(random, bases):
    return "kd.of_classes", {"data": DATA, "classes": (0, 1)}


def _call_weigh_classes(random, bases):
    weights = choice(random, ["balanced", (1.0, 2.0, 1.0, 0.0, 1.0), {"3": 2.0}])
    return "kd.weigh_classes", {"data": DATA, "weights": weights}


def _call_jitter(random, bases):
    return "kd.jitter", {"pixels": 1}


def _call_schedule(random, bases):
    return "kd.Schedule", {"shape": "linear", "warmup_percent": 5.0}


def _call_load_trained(random, bases):
    return "kd.load_trained", {"path": bases["hard"]}


def _call_teacher(random, bases):
    return "kd.Trained.teacher", {"average": "arithmetic", "pairs": None}


def _call_logits(random, bases):
    return "kd.Trained.logits", {"data": DATA}


def _call_save(random, bases):
    return "kd.Trained.save", {"path": "kept", "overwrite": False}


def _call_export(random, bases):
    return "kd.Trained.export", {"path": "out", "format": "safetensors", "overwrite": False}


def _call_member(random, bases):
    return "kd.Trained.member", {"i": 1}


def _call_precompute(random, bases):
    return "kd.precompute", {"teacher": Later(usual.a_teacher), "data": DATA}


def _call_soft_labels(random, bases):
    data, logits = {"data": DATA}, usual.some_logits()
    if random.random() < 0.5:
        return "kd.soft_labels", {**data, "logits": logits}
    chances = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    return "kd.soft_labels", {**data, "probabilities": chances, "temperature": 2.0}


def _call_any_teacher(random, bases):
    told = {"data": DATA, "kind": "logits", "batch_size": 16}
    if random.random() < 0.5:
        return "kd.teacher", {"source": _answers, **told, "classes": (4, 3, 2, 1, 0)}
    run = f"run:{bases['population']}"
    return "kd.teacher", {"source": run, "average": "geometric", "classes": (0, 1, 2, 3, 4)}


def _answers(inputs):
    return inputs.reshape(len(inputs), -1)[:, :5]


def _call_mixture(random, bases):
    def teachers():
        return [(usual.a_teacher(), 2.0), (usual.a_table(), 1.0)]

    return "kd.mixture", {"teachers": Later(teachers), "average": "geometric"}


def _call_audit(random, bases):
    trained = Later(usual.a_trained)
    return "kd.audit", {"teacher": trained, "student": trained, "data": DATA}


DATA = Later(usual.some_data)
OF_LABELS = [
    (usual.partly_labelled, terms_of("hard")),
    (usual.yes_or_no, terms_of("bce")),
    (usual.scores, terms_of("mse")),
]
CALLS = [
    *[_call_fit] * 6,
    *[_call_fit_of_other_labels] * 2,
    *[_call_fit_of_other_teachers] * 2,
    _call_fit_with_patience,
    *[_call_arrays] * 4,
    _call_arrays_of_ids,
    *[_call_soft_labels] * 2,
    *[_call_any_teacher] * 2,
    _call_mixture,
    _call_weigh_classes,
    _call_save,
    _call_export,
    _call_member,
    _call_load_saved,
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


def _wrongs(name, result, whole):
    """A model that was trained answers finite numbers and has moved; the usual one has learnt."""
    if name == "kd.arrays":
        return [] if np.isfinite(result.first).all() else ["inputs that are not finite"]
    if name != "kd.fit":
        return []
    import jax

    leaves = jax.tree.leaves(result.params)
    wrongs = [] if all(np.isfinite(leaf).all() for leaf in leaves) else ["not finite"]
    if whole and wrongs == []:
        right = np.mean(np.argmax(result.logits(usual.some_data()), -1) == usual.some_inputs()[1])
        wrongs += [] if right > 0.2 + 3 * np.sqrt(0.2 * 0.8 / 64) else [f"accuracy {right}"]
    return wrongs
