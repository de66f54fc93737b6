"""Odd arguments of the library are refused in one line, each with its cause."""

import json
import os

import numpy as np

import kd
import runs
import tiny
from kd.errors import KdError
from kd.teachers.trained import Trained

DATA = tiny.dataset()
CHANCES = np.full((64, 5), 0.2)
HUGE = 10**400


def arrays(**odd):
    return kd.arrays(np.zeros((4, 2), np.int32), np.zeros(4, int), num_classes=5, **odd)


ODD = {
    "ragged weights": (lambda: arrays(weights=[[1], [1, 2]]), "weights are no array"),
    "a dictionary of weights": (lambda: arrays(weights={1: 2}), "weights are a dictionary"),
    "targets that are an array": (lambda: arrays(targets=np.arange(4)), "kind of targets"),
    "ids that are an array": (lambda: arrays(ids=np.arange(4)), "ids says whether"),
    "one class name": (lambda: arrays(class_names=5), "class_names must be words"),
    "class names that are lists": (lambda: arrays(class_names=[[1], [2]]), "must be words"),
    "a class weight": (lambda: kd.weigh_classes(DATA, 5), "class weights are 'balanced'"),
    "no class weights": (lambda: kd.weigh_classes(DATA, None), "class weights are 'balanced'"),
    "class weights of two axes": (lambda: kd.weigh_classes(DATA, CHANCES), "class weights are"),
    "a huge class weight": (lambda: kd.weigh_classes(DATA, (HUGE,) * 5), "a finite number of 0"),
    "a huge temperature": (
        lambda: kd.soft_labels(probabilities=CHANCES, data=DATA, temperature=HUGE),
        "temperature must be a finite number",
    ),
    "a mixture of nothing": (lambda: kd.mixture(None), "a mixture takes pairs"),
    "a huge weight": (lambda: kd.mixture([(tiny.teacher(), HUGE)]), "weights of teachers"),
    "classes that are a number": (
        lambda: kd.teacher(lambda x: x, data=DATA, classes=5),
        "classes of teacher must be",
    ),
    "another kind": (lambda: kd.teacher(lambda x: x, data=DATA, kind="x"), "kind of teacher must"),
    "a function of nothing": (lambda: kd.teacher(os.getcwd, data=DATA), "it takes ()"),
    "batches of no number": (
        lambda: kd.teacher(lambda x: x, data=DATA, batch_size="x"),
        "batch_size of teacher must be int",
    ),
    "a metric that is a list": (
        lambda: kd.fit(tiny.PLAIN, DATA, [kd.term("hard")], validation=DATA, watch=[1]),
        "metric of classes labels",
    ),
    "a format that is an array": (
        lambda: Trained(tiny.PLAIN, {}, {}).export("x", format=CHANCES),
        "unknown format",
    ),
}


def refusals():
    """What each call says: in a process whose signatures nobody checks, as a user's."""
    said = {}
    for name, (call, _) in ODD.items():
        try:
            call()
        except KdError as error:
            said[name] = str(error)
    return said


def test_they_are_refused_in_one_line():
    done = runs.python(__file__)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout.splitlines()[-1])
    for name, (_, words) in ODD.items():
        assert words in said.get(name, "nothing"), name
        assert "\n" not in said[name], name


if __name__ == "__main__":
    print(json.dumps(refusals()))
