"""What `kd.fit` and what is given to it refuse, in a line: nothing is trained on what would be
measured wrong.
"""

import re

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
import optax

import kd
import runs
import tiny
from kd.core.losses import LossInfo
from kd.core.types import Outputs, Teacher
from kd.teachers.trained import Trained

DATA = tiny.dataset()
SHORT = {"epochs": 1, "batch_size": 16}
SOFT = kd.term("soft_targets", temperature=2.0)


class Net(nn.Module):
    """A layer; `answer` makes two of its logits, or does without it."""

    answer: str = "logits"

    @nn.compact
    def __call__(self, inputs):
        flat = inputs.reshape(inputs.shape[0], -1)
        logits = (
            flat[:, : tiny.CLASSES] if self.answer == "nothing" else nn.Dense(tiny.CLASSES)(flat)
        )
        return (logits, logits) if self.answer == "tuple" else logits


def fit(*terms, data=DATA, model=None, **options):
    return kd.fit(
        Net() if model is None else model,
        data,
        list(terms) or [kd.term("hard")],
        **{**SHORT, **options},
    )


def says(answer):
    return kd.term(LossInfo(lambda student, *_: answer(student.logits), needs=()), name="own")


def answers(values):
    return Teacher(
        {},
        lambda _, batch: values(
            batch["inputs"].reshape(batch["inputs"].shape[0], -1)[:, : tiny.CLASSES]
        ),
    )


SHIFTED = kd.arrays(DATA.inputs[:, :3], DATA.labels)
WIDER = kd.arrays(DATA.inputs, DATA.labels + 1)
LOGITS = np.ones((len(DATA), tiny.CLASSES))

REFUSED = {
    "a seed that is no whole number": (lambda: fit(seed=1.5), "seed a whole number"),
    "a rate below 0": (lambda: fit(learning_rate=-0.1), "learning_rate must be"),
    "a rate as text": (lambda: fit(learning_rate="0.1"), "learning_rate must be"),
    "a schedule for a rate": (
        lambda: fit(learning_rate=optax.linear_schedule(1, 0, 3)),
        "learning_rate_schedule",
    ),
    "a schedule by its name": (
        lambda: fit(learning_rate_schedule="cosine"),
        r"kd\.Schedule\('cosine'\)",
    ),
    "an optimiser by its name": (lambda: fit(optimizer="adam"), "optimiser of Optax"),
    "an optimiser that wants the loss": (
        lambda: fit(optimizer=optax.lbfgs()),
        "more than gradients",
    ),
    "endless epochs": (lambda: fit(epochs=1e12), "fewer than 2\\^31 steps"),
    "a batch of True": (lambda: fit(batch_size=True), "batch_size must be a whole number"),
    "no terms": (lambda: kd.fit(Net(), DATA, None, **SHORT), "a list of terms"),
    "a population that is a list": (
        lambda: fit(population=[("seed", (0, 1))]),
        "must be a mapping",
    ),
    "validation of other classes": (lambda: fit(validation=WIDER), "6 classes"),
    "validation of another shape": (lambda: fit(validation=SHIFTED), "same kind"),
    "a teacher of another shape": (
        lambda: fit(SOFT, data=SHIFTED, teacher=tiny.teacher()),
        "the teacher cannot read inputs of shape",
    ),
    "a teacher that answers with an array": (
        lambda: fit(SOFT, teacher=answers(lambda x: x)),
        "wrap: Outputs",
    ),
    "a teacher that answers NaN": (
        lambda: fit(SOFT, teacher=answers(lambda x: Outputs(x * jnp.nan))),
        "the loss is not finite at step 0",
    ),
    "a cache and augmentation": (
        lambda: fit(SOFT, teacher=kd.precompute(tiny.teacher(), DATA), view=kd.jitter(1)),
        "view changes what the student sees",
    ),
    "a cache of NaN": (
        lambda: kd.precompute(answers(lambda x: Outputs(x * jnp.nan)), DATA),
        "not finite",
    ),
    "a loss without a gradient": (
        lambda: fit(says(lambda z: z.argmax(axis=-1))),
        "has no gradient",
    ),
    "a loss that answers with two": (lambda: fit(says(lambda z: (z[:, 0], 1))), "a tuple"),
    "a model that answers with two": (lambda: fit(model=Net("tuple")), "one array of logits"),
    "a model without parameters": (lambda: fit(model=Net("nothing")), "no parameters"),
    "pairs that are one number": (lambda: population().teacher(pairs=1), "pairs must be members"),
    "an unknown rule of one model": (lambda: single().teacher("mean"), "unknown teacher.average"),
    "logits of a bare array": (lambda: single().logits(DATA.inputs), "must be a Dataset"),
    "logits of another shape": (
        lambda: single().logits(SHIFTED),
        "the model cannot read inputs of shape",
    ),
    "an audit of logits": (
        lambda: kd.audit(single().logits(DATA), single(), DATA),
        "must be a trained model",
    ),
    "an audit of half a pair": (
        lambda: kd.audit(population(), population(), DATA, pairs=(0, 1.5, 2)),
        "whole numbers",
    ),
    "numbers that devices cut": (lambda: kd.arrays(np.array([[2**40]]), [0]), "32 bits"),
    "a dictionary of inputs": (lambda: kd.arrays({"image": DATA.inputs}, [0]), "one array"),
    "rows of different lengths": (lambda: kd.arrays([[1, 2], [1]], [0, 1]), "equally long"),
    "a scale of nothing": (
        lambda: kd.arrays(DATA.inputs, DATA.labels, scale=0.0),
        "scale multiplies",
    ),
    "half a class": (lambda: kd.arrays(DATA.inputs, DATA.labels, num_classes=5.5), "num_classes"),
    "soft labels of a bare array": (
        lambda: kd.soft_labels(logits=LOGITS, data=DATA.inputs),
        "must be a Dataset",
    ),
    "soft labels of an unknown rule": (
        lambda: kd.soft_labels(logits=LOGITS, data=DATA, average="mean"),
        "unknown teacher.average",
    ),
    "a label beyond 32 bits": (
        lambda: kd.arrays(np.zeros((1, 2)), np.array([2**40])),
        "below 2\\^31",
    ),
}


def single():
    return Trained(tiny.WIDE, tiny.take(tiny.members(), 0), {})


def population():
    return Trained(tiny.WIDE, tiny.members(), {}, members=True)


def test_refused_in_a_line():
    """In a process without the tests' checker of signatures, which would refuse some of it
    first.
    """
    child = runs.python(__file__)
    assert (child.stdout, child.returncode) == ("", 0), child.stderr


def test_numpys_whole_numbers_are_seeds():
    first, other = (fit(seed=seed) for seed in (3, np.int64(3)))
    tiny.close(first.params, other.params, 0, 0)


def test_a_column_may_come_from_a_generator():
    assert kd.product(seed=(i for i in range(2)), learning_rate=iter((0.1, 0.2))) == {
        "seed": (0, 0, 1, 1),
        "learning_rate": (0.1, 0.2, 0.1, 0.2),
    }


def _not_refused():
    for what, (attempt, message) in REFUSED.items():
        try:
            attempt()
        except kd.KdError as error:
            if not re.search(message, str(error)) or "\n" in str(error):
                yield f"{what}: {error}"
        except Exception as error:  # any other is what this is about
            yield f"{what}: {error!r}"
        else:
            yield f"{what}: taken"


if __name__ == "__main__":
    for line in _not_refused():
        print(line)
