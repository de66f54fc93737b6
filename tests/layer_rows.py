"""A row for every loss on layers or on a whole batch: shapes, numbers, and its reference."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import kd
import layer_reference as reference
from kd.core import rng
from kd.core.heads import init_heads
from kd.core.terms import tapped
from kd.core.types import Heads, Outputs

EXAMPLES, CLASSES = 8, 6
KEY, STEP = rng.key(7), jnp.int32(3)


@dataclasses.dataclass(frozen=True)
class Case:
    """A loss, the shapes of the layers of student and teacher (of one example), and the value that
    it should have: `reference` gives a value per example, or with `mean` their mean.
    """

    loss: str
    reference: Callable[..., Any]
    student: Any = ()
    teacher: Any = ()
    numbers: dict[str, float] = dataclasses.field(default_factory=dict)
    mean: bool = False
    itself: str = ""
    """How the loss of a teacher with itself is 0: as it is ("plain"), or with a head that changes
    nothing ("identity")."""

    @property
    def info(self) -> kd.LossInfo:
        return self.term().info

    def term(self):
        taps = {name: self._paths() for name in kd.core.LOSSES[self.loss].taps}
        return kd.term(self.loss, taps=taps, **self.numbers)

    def _paths(self):
        several = isinstance(self.student, list)
        return tuple((f"{i}", f"{i}") for i in range(len(self.student))) if several else "0"

    def arrays(self, shapes, seed, examples=EXAMPLES):
        """Random answers: logits, and the layers by their paths."""
        random = np.random.default_rng(seed)
        layers = shapes if isinstance(shapes, list) else [shapes]
        drawn = {"logits": random.normal(size=(examples, CLASSES)) * 2}
        if self.info.taps:
            drawn |= {
                str(i): random.normal(size=(examples, *shape)) for i, shape in enumerate(layers)
            }
        return {name: values.astype(np.float32) for name, values in drawn.items()}

    def both(self, seed=0, examples=EXAMPLES):
        return self.arrays(self.student, seed, examples), self.arrays(
            self.teacher, seed + 100, examples
        )

    def heads(self, student, teacher, seed=0) -> Heads:
        """What the loss owns, moved a little from how it begins, so that no bias is 0."""
        made = init_heads([self.term()], rng.key(seed), outputs(student), outputs(teacher), 100)
        if made is None:
            return Heads()
        random = np.random.default_rng(seed)
        return jax.tree.map(
            lambda leaf: leaf + jnp.asarray(0.3 * random.random(leaf.shape), jnp.float32),
            made[self.term().name],
        )

    def value(self, student, teacher, heads, weight=None, index=None):
        """The loss itself: a value per example."""
        shape = student["logits"].shape[:-1]
        weight = jnp.ones(shape) if weight is None else weight
        batch = {"weight": weight, "keys": keys(index, shape[0])}
        sides = tapped(self.term(), outputs(student), outputs(teacher))
        numbers = {name: jnp.float32(number) for name, number in self.numbers.items()}
        owned = () if self.info.init is None else (heads,)
        answer = self.info.loss(*sides, batch, numbers, *owned)
        return answer[0] if isinstance(answer, tuple) else answer

    def wanted(self, student, teacher, heads, weight=None, fixed=None, index=None):
        """The value of the reference."""
        examples = len(student["logits"])
        weight = np.ones(examples) if weight is None else np.asarray(weight, np.float64)
        mask = _mask(self, student, index) if self.loss == "mgd" else None
        sides = (_wide(self, student), _wide(self, teacher))
        return self.reference(
            *sides, heads=heads, weight=weight, mask=mask, fixed=fixed, **self.numbers
        )


def outputs(arrays) -> Outputs:
    taps = {name: jnp.asarray(values) for name, values in arrays.items() if name != "logits"}
    return Outputs(jnp.asarray(arrays["logits"]), taps=taps)


def keys(index, examples):
    index = np.arange(examples) if index is None else index
    stream = rng.stream(KEY, STEP, "loss/mgd")
    return jax.vmap(jax.random.fold_in, (None, 0))(stream, jnp.asarray(index, jnp.int32))


def _mask(case, student, index):
    """Which places are left, by the promise: a function of seed, step, term and example."""
    places = student["0"].shape[1:-1]
    drawn = [jax.random.uniform(key, (*places, 1)) for key in keys(index, len(student["0"]))]
    return np.stack([np.asarray(row) >= case.numbers["mask_ratio"] for row in drawn])


def _wide(case, arrays):
    arrays = {name: np.asarray(values, np.float64) for name, values in arrays.items()}
    if not case.info.taps:
        return arrays
    several = isinstance(case.student, list)
    layers = [arrays[str(i)] for i in range(len(case.student))] if several else arrays["0"]
    return {"logits": arrays["logits"], case.info.taps[0]: layers}


MAPS = {"student": (4, 4, 3), "teacher": (4, 4, 5)}
TOKENS = {"student": (5, 3), "teacher": (5, 4)}
RELATIONS = {"student": (3, 2, 3), "teacher": (3, 2, 3)}
SHRUNK = {"student": (4, 4, 3), "teacher": (2, 3, 4)}

CASES = {
    "activation_boundary": Case(
        "activation_boundary",
        reference.activation_boundary,
        (7,),
        (5,),
        {"margin": 0.8},
    ),
    "attention_mse": Case("attention_mse", reference.attention_mse, **RELATIONS, itself="plain"),
    "attention_transfer": Case(
        "attention_transfer", reference.attention_transfer, **MAPS, itself="plain"
    ),
    "attention_transfer, two grids": Case(
        "attention_transfer", reference.attention_transfer, **SHRUNK
    ),
    "dist": Case(
        "dist",
        reference.dist_mean,
        numbers={"temperature": 2.0, "beta": 0.7, "gamma": 1.3},
        mean=True,
        itself="plain",
    ),
    "factor_transfer": Case("factor_transfer", reference.factor_transfer, **SHRUNK),
    "hidden_cosine": Case("hidden_cosine", reference.hidden_cosine, **TOKENS),
    "hidden_cosine, one width": Case(
        "hidden_cosine", reference.hidden_cosine, (5, 4), (5, 4), itself="plain"
    ),
    "hidden_mse": Case("hidden_mse", reference.hidden_mse, **MAPS, itself="identity"),
    "hint": Case("hint", reference.hint, **TOKENS, itself="identity"),
    "hint, two grids": Case("hint", reference.hint, **SHRUNK),
    "mgd": Case("mgd", reference.mgd, **MAPS, numbers={"mask_ratio": 0.4}),
    "mgd, tokens": Case("mgd", reference.mgd, **TOKENS, numbers={"mask_ratio": 0.4}),
    "minilm": Case("minilm", reference.minilm, **RELATIONS, itself="plain"),
    "mlkd": Case("mlkd", reference.mlkd_mean, mean=True, itself="plain"),
    "nst": Case("nst", reference.nst, **MAPS, itself="plain"),
    "nst, two grids": Case("nst", reference.nst, **SHRUNK),
    "ofd": Case("ofd", reference.ofd, **MAPS, itself="identity"),
    "pkd": Case("pkd", reference.pkd, **TOKENS),
    "pkd, one width": Case("pkd", reference.pkd, (5, 4), (5, 4), itself="plain"),
    "review": Case("review", reference.review, [(4, 4, 3), (2, 2, 4)], [(4, 4, 5), (2, 2, 6)]),
    "sdd": Case(
        "sdd",
        reference.sdd,
        (4, 4, 6),
        (5, 5, 6),
        {"temperature": 2.0, "beta": 2.5},
        itself="plain",
    ),
    "simkd": Case("simkd", reference.simkd, **SHRUNK),
    "simkd, vectors": Case("simkd", reference.simkd, (7,), (6,)),
    "vid": Case("vid", reference.vid, **TOKENS),
}
