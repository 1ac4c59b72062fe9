"""What running out of memory looks like, wherever it happens."""

from __future__ import annotations

import torch

# Python has a type for it and so has CUDA. PyTorch's allocator for the CPU raises a plain
# RuntimeError: "DefaultCPUAllocator: can't allocate memory" on Linux, "... not enough memory"
# elsewhere.
_CPU_ALLOCATOR = "DefaultCPUAllocator"


def out_of_memory(error: BaseException) -> bool:
    """Whether ``error`` says that the device or the machine has too little memory."""
    if isinstance(error, (torch.cuda.OutOfMemoryError, MemoryError)):
        return True
    return isinstance(error, RuntimeError) and _CPU_ALLOCATOR in str(error)
