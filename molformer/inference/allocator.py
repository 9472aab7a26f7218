"""Settings of glibc's allocator for batches of varying size."""

import torch

_LARGEST_IN_HEAP = 1 << 25  # bytes, of pieces that glibc ever takes from its heap; it maps larger ones each by itself


def keep_freed_memory() -> None:
    """Let glibc retain up to 64 MiB of freed memory, instead of returning it to the system after each layer.

    Batches of molecules differ in size, and glibc gives the end of its heap back whenever twice as much is free as the
    largest piece had that was freed so far (mallopt(3), M_MMAP_THRESHOLD); every page then comes back by a page fault.
    So a large piece is freed, of which no page was ever touched. Other C libraries take no notice.
    """
    torch.empty(_LARGEST_IN_HEAP - (1 << 16), dtype=torch.uint8)
