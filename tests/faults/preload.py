"""What every run imports, loaded once: a start is then a fork and costs a third.

No device is touched here.
"""

import grain  # noqa: F401
import sklearn.datasets  # noqa: F401

import faults.child  # noqa: F401
