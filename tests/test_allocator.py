"""Memory that was freed is kept for whoever asks next, and not given back page by page."""

import platform
import subprocess
import sys

import pytest

PROGRAM = """
import resource, sys
if sys.argv[1] == "kept":
    from kd.system.allocator import keep_freed
    keep_freed()
faults = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(2):
    before = faults()
    for _ in range(8):
        b"x" * (64 << 20)
print(faults() - before)
"""
PAGES = 8 * (64 << 20) // 4096


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only GNU's C library is told")
def test_what_was_freed_is_not_mapped_again():
    assert _faults("kept") < PAGES // 100 < PAGES // 10 < _faults("as ever")


def _faults(how: str) -> int:
    command = [sys.executable, "-c", PROGRAM, how]
    return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
