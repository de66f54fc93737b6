"""Laws of class names: one list for all splits of a source, and data sets of other classes do not
mix.
"""

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest

import kd
import tiny
from kd import data as kd_data
from kd.data.words import class_list, indices
from kd.errors import KdError

WORDS = st.lists(st.sampled_from("abcdefg"), min_size=1, max_size=20)
INPUTS = np.random.default_rng(0).normal(size=(6, 4, 4)).astype(np.float32)


@hypothesis.given(WORDS, WORDS)
def test_an_index_is_its_word_in_every_split(train, test):
    splits = {"train": train, "test": test}
    if not set(test) <= set(train):
        with pytest.raises(KdError, match=r"test has class '.', which train has not"):
            class_list(splits, "x")
        return
    names = class_list(splits, "x")
    assert list(names) == sorted(set(train))
    for words in splits.values():
        assert [names[index] for index in indices(words, names)] == words


def test_without_train_the_classes_are_those_of_all_splits():
    assert class_list({"a": ["x", "z"], "b": ["y"]}, "x") == ("x", "y", "z")


def named(names):
    return kd_data.arrays(INPUTS, np.arange(6) % 2, class_names=names)


def test_names_are_one_for_each_class():
    assert named(("cat", "dog")).num_classes == 2
    for names in (("cat", "cat"), ("cat",)):
        with pytest.raises(KdError, match=r"different words, one for each class|out of range"):
            named(names)


def test_names_stay_with_every_part_and_view():
    data = named(("cat", "dog"))
    parts = [kd_data.take(data, "x[:3]"), kd_data.of_classes(data, (1,))]
    streams = [kd_data.as_stream(data), kd_data.as_stream(data).take("x[:3]")]
    parts += [*streams, kd_data.in_memory(streams[1])]
    assert {part.class_names for part in parts} == {("cat", "dog")}


def test_validation_of_other_classes_is_refused():
    options = {"epochs": 1, "batch_size": 3}
    with pytest.raises(KdError, match="validation and data have different class names"):
        kd.fit(
            tiny.PLAIN,
            named(("cat", "dog")),
            [kd.term("hard")],
            validation=named(("ant", "bee")),
            **options,
        )
