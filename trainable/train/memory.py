"""Memory of a worker process."""

from __future__ import annotations

import ctypes
import resource
import sys

import torch

from trainable.errors import OutOfMemory

CUDA_CONTEXT_MIB = 600  # what the driver keeps of a GPU's memory for each process beside its tensors

# From glibc's malloc.h.
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX = -1, -2, -4


def keep_freed_memory() -> None:
    """Make malloc keep what is freed for the next step, where that is glibc's.

    By default every tensor over 128 KiB is mapped anew and its pages are zeroed by the kernel, step after step:
    4 to 12 % of an epoch.
    """
    if not sys.platform.startswith("linux"):
        return
    libc = ctypes.CDLL(None)
    if hasattr(libc, "gnu_get_libc_version"):
        libc.mallopt(_M_MMAP_MAX, 0)
        libc.mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)
        libc.mallopt(_M_TOP_PAD, 64 * 2**20)


def limit_gpu_memory(device: torch.device, share: float) -> None:
    """Keep a process that has a fraction of a GPU within that fraction of its memory.

    Ray's fraction is a number for placing trials, no more. What one trial takes too much ends that trial, not its
    neighbours.
    """
    if device.type == "cuda" and share < 1:
        total_mib = torch.cuda.get_device_properties(device).total_memory / 2**20
        torch.cuda.set_per_process_memory_fraction(tensors_mib(share, total_mib) / total_mib, device)


def tensors_mib(share: float, total_mib: float) -> float:
    """How much of a GPU's memory the tensors of a process with that share of it may take."""
    return max(share * total_mib - CUDA_CONTEXT_MIB, share * total_mib / 2)


class Ladder:
    """How many rows a worker computes at once: half as many each time that memory runs out.

    What one trial taught holds for the worker's later ones. A step's gradient is the same however it is divided.
    """

    def __init__(self) -> None:
        self.rows: int | None = None  # None: memory never ran out

    def step_down(self, tried_rows: int) -> None:
        """Compute half as many rows at once as were too many. Raises OutOfMemory where that was one row."""
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        if tried_rows <= 1:
            raise OutOfMemory("out of memory with one row at a time")
        self.rows = tried_rows // 2


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory ran out: Python's, a CPU tensor's or a GPU's."""
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    # torch has no class of its own for these.
    words = ("can't allocate memory", "not enough memory", "CUBLAS_STATUS_ALLOC_FAILED")
    return isinstance(error, RuntimeError) and any(word in str(error) for word in words)


def peak_memory_mib() -> float:
    """The most memory that this process ever had resident, MiB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 2**10
