"""Freed memory that stays, in a process of its own: what was freed before would count too."""

import platform
import subprocess
import sys

import pytest

LOOP = """
import resource, torch
from molformer.inference.memory import keep_freed_memory
{first}
torch.set_num_threads(1)
def batch():
    pieces = [torch.ones(1 << 18) for _ in range(24)]
for _ in range(3):
    batch()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    batch()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(first):
    code = LOOP.format(first=first)
    return int(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library has other habits")
def test_batches_after_the_first_cause_no_page_faults():
    assert faults("") > 10_000 > 100 * faults("keep_freed_memory()")
