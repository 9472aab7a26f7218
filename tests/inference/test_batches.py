"""Freed memory that stays, in a process of its own: what was freed before would count too."""

import platform
import subprocess
import sys

import pytest

PIECE = """
import torch
from molformer.inference.batches import keep_freed_memory
{first}
piece = torch.empty(20 << 20, dtype=torch.uint8)
heap = next(line.split()[0] for line in open("/proc/self/maps") if line.endswith("[heap]\\n"))
start, end = (int(number, 16) for number in heap.split("-"))
print(start <= piece.data_ptr() < end)
"""


def is_in_the_heap(first):
    """Whether a large piece comes from the heap, whose end then stays too, and not from a mapping of its own."""
    code = PIECE.format(first=first)
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "True\n"


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library has other habits")
def test_large_allocations_reuse_freed_memory():
    assert not is_in_the_heap("")
    assert is_in_the_heap("keep_freed_memory()")
