"""A short version of the faults of a run in a bucket; the long one is
``python -m tests.faults --buckets``.
"""

import dataclasses

import numpy as np
import pytest

from faults import buckets, kinds
from faults.cases import BUCKETS
from faults.test_faults import exact

GOOGLE, AMAZON = BUCKETS[0], dataclasses.replace(BUCKETS[0], store="s3")
SHORT = {
    "killed, gs": (kinds.killed, GOOGLE),
    "killed, s3": (kinds.killed, AMAZON),
    "requests fail, gs": (buckets.some_fail, GOOGLE),
    "bucket gone, s3": (buckets.gone, AMAZON),
    "lease held, s3": (buckets.held, AMAZON),
    "lease expired, gs": (buckets.expired, GOOGLE),
}


@pytest.mark.parametrize("name", SHORT)
def test_a_run_in_a_bucket_is_broken_off(name):
    fault, case = SHORT[name]
    exact(fault(case, 1, np.random.default_rng(0)), 1)


def test_the_newest_checkpoint_is_damaged():
    exact(kinds.damaged(GOOGLE, "a bit flipped", 1, np.random.default_rng(0)), 1)
