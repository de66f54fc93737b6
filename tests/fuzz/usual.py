"""The usual arguments of the library's functions: small data, a model of it, what it becomes."""

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np


@dataclasses.dataclass(frozen=True)
class Later:
    """An argument that is made when the call is, and not when it is drawn."""

    make: Callable[[], Any]

    def __repr__(self):
        return self.make.__name__


def made(arguments):
    """The same arguments, all of them there."""
    return {k: v.make() if isinstance(v, Later) else v for k, v in arguments.items()}


def some_inputs():
    labels = np.arange(64) % 5
    centres = np.random.default_rng(1).normal(size=(5, 4, 4))
    noise = np.random.default_rng(2).normal(size=(64, 4, 4)) / 4
    return (centres[labels] + noise).astype(np.float32), labels


def some_logits():
    return 4 * np.eye(5)[some_inputs()[1]] + np.random.default_rng(3).normal(size=(64, 5))


def some_data(**options):
    import kd

    return kd.arrays(*some_inputs(), **options)


def partly_labelled():
    import kd

    inputs, labels = some_inputs()
    return kd.arrays(inputs, np.where(np.arange(64) % 3, labels, -1), weights=1.0 + labels)


def yes_or_no():
    import kd

    inputs, labels = some_inputs()
    return kd.arrays(inputs, np.eye(5)[labels])


def scores():
    import kd

    inputs, labels = some_inputs()
    return kd.arrays(inputs, np.eye(5)[labels] + inputs[:, 0, :1])


def a_model():
    from kd.models import MODELS

    return MODELS["mlp"](classes=5, widths=(4,))


def a_trained():
    import kd

    return kd.fit(a_model(), some_data(), [kd.term("hard")], epochs=1, batch_size=32)


def a_population():
    import kd

    columns = {"seed": (0, 1)}
    terms = [kd.term("hard")]
    return kd.fit(a_model(), some_data(), terms, epochs=1, batch_size=32, population=columns)


def a_teacher():
    return a_trained().teacher()


def a_table():
    import kd

    return kd.soft_labels(logits=some_logits(), data=some_data())


def a_mixture():
    import kd

    return kd.mixture([(a_teacher(), 2.0), (a_table(), 1.0)])


def a_saved():
    a_trained().save("kept")
    return "kept"


def terms_of(*losses):
    def terms():
        import kd

        return [kd.term(loss) for loss in losses]

    terms.__name__ = f"terms of {', '.join(losses)}"
    return Later(terms)
