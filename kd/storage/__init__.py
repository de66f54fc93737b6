"""Folders of this machine and of buckets behind one interface: a path.

``gs://BUCKET/…`` and ``s3://BUCKET/…`` are a `BucketPath`, a `pathlib.Path` whose reading, writing
and listing ask the bucket. What a bucket cannot do as a disk does has a function here.
"""

from kd.storage.bucket_path import BucketPath, is_address, wrong_with
from kd.storage.files import is_there, may_write, send, write_whole
from kd.storage.lease import claimed
from kd.storage.store import BucketError, BucketRefused

__all__ = [
    "BucketError",
    "BucketPath",
    "BucketRefused",
    "claimed",
    "is_address",
    "is_there",
    "may_write",
    "send",
    "write_whole",
    "wrong_with",
]
