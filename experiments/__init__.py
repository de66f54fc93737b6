"""Experiments: one folder per published result, and the table that ``kd reproduce`` and ``kd list``
read.
"""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True)
class Experiment:
    """One line about it, its default config file, where its record is kept, and the function that
    runs it.

    `whole` names the page of a record that several experiments share; `data` the part of the config
    that says which data it reads, where that is not every run.
    """

    about: str
    config: str
    record: str
    run: str
    whole: str = ""
    data: str = ""


EXPERIMENTS: dict[str, Experiment] = {
    "hinton2015-digits": Experiment(
        about="Hinton et al. (2015), section 3, in small: ensemble to one model on scikit-learn's "
        "digits, a minute",
        config="hinton2015_digits.py",
        record="hinton2015/digits",
        run="experiments.hinton2015.digits.run:run",
    ),
    "hinton2015-mnist": Experiment(
        about="Hinton et al. (2015), sections 2.1, 3 and 6 on MNIST through TFDS; :quick takes "
        "under ten minutes",
        config="hinton2015_mnist.py",
        record="hinton2015",
        run="experiments.hinton2015.mnist.run:run",
        whole="experiments.hinton2015.page:page",
    ),
    "hinton2015-speech": Experiment(
        about="Hinton et al. (2015), sections 4 and 6: acoustic models into one, soft targets on "
        "3% of the data",
        config="hinton2015_speech.py",
        record="hinton2015",
        run="experiments.hinton2015.speech.stages:run",
        data="speech",
        whole="experiments.hinton2015.page:page",
    ),
    "hinton2015-specialists": Experiment(
        about="Hinton et al. (2015), section 5: specialists beside a generalist, and the step back "
        "into one network",
        config="hinton2015_specialists.py",
        record="hinton2015",
        run="experiments.hinton2015.specialists.stages:run",
        data="text",
        whole="experiments.hinton2015.page:page",
    ),
}
