"""The same numbers are the same run, however they are spelled."""

from hypothesis import given
from hypothesis import strategies as st

from kd.config import fingerprint_of, identity, resolve

BASE = {"objective": {"hard": {}, "soft_targets": {}}, "total_steps": 3}


def fingerprint(**keys):
    return fingerprint_of(identity(resolve({**BASE, **keys})))


def spelled(number):
    numbers = {"weight": number, "temperature": number}
    schedule = {"shape": "linear", "end": number, "warmup_percent": number}
    return fingerprint(
        objective={"hard": {}, "soft_targets": {**numbers, "weight_schedule": schedule}},
        student={"name": "mlp", "widths": (8,), "hidden_dropout": 0 * number},
        population={"seed": (0, 1), "soft_targets": {"temperature": (number, number + 1)}},
        optim={"max_norm": number},
    )


@given(st.integers(2, 50))
def test_a_whole_number_is_a_float_wherever_floats_are_wanted(number):
    assert spelled(number) == spelled(float(number))
    assert spelled(number) != spelled(number + 1)


def test_what_is_counted_stays_whole():
    told = identity(resolve({**BASE, "population": {"seed": (0, 1), "learning_rate": (1, 2)}}))
    assert repr(told["population"]) == "{'seed': (0, 1), 'learning_rate': (1.0, 2.0)}"
    assert repr(told["student"]) == "{'name': 'mlp'}"
