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
    "killed": (kinds.killed, GOOGLE),
    "requests fail": (buckets.some_fail, AMAZON),
    "bucket gone": (buckets.gone, GOOGLE),
    "lease expired": (buckets.expired, AMAZON),
}
"""What is damaged, and a lease that is held, are in test_bucket_checkpoint.py and
test_bucket_runs.py.
"""


@pytest.mark.parametrize("name", SHORT)
def test_a_run_in_a_bucket_is_broken_off(name):
    fault, case = SHORT[name]
    exact(fault(case, 1, np.random.default_rng(0)), 1)
