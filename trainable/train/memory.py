"""The memory of a worker process: how malloc treats it, how much of a GPU is ours, and what to do when it runs out."""

from __future__ import annotations

import ctypes
import resource
import sys

import torch

from trainable.errors import OutOfMemory

CUDA_CONTEXT_MIB = 600  # what CUDA itself takes of a GPU's memory for each process, beside the tensors

# From glibc's malloc.h.
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX = -1, -2, -4


def keep_freed_memory() -> None:
    """Let malloc keep freed memory for the next step, where malloc is glibc's.

    By default glibc maps every tensor over 128 KiB anew, and the kernel zeroes its pages, step after step. That takes
    4 to 12 % of an epoch.
    """
    if not sys.platform.startswith("linux"):
        return
    libc = ctypes.CDLL(None)
    if hasattr(libc, "gnu_get_libc_version"):
        libc.mallopt(_M_MMAP_MAX, 0)
        libc.mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)
        libc.mallopt(_M_TOP_PAD, 64 * 2**20)


def limit_gpu_memory(device: torch.device, gpus_per_trial: float) -> None:
    """Keep a process that has a fraction of a GPU within that fraction of the GPU's memory.

    Ray uses the fraction for placement only and does not enforce it. With this limit, a trial that needs too much
    memory fails alone, instead of making its neighbours fail.
    """
    if device.type == "cuda" and gpus_per_trial < 1:
        total_mib = torch.cuda.get_device_properties(device).total_memory / 2**20
        torch.cuda.set_per_process_memory_fraction(tensors_mib(gpus_per_trial, total_mib) / total_mib, device)


def tensors_mib(gpus_per_trial: float, total_mib: float) -> float:
    """How much memory the tensors of a process may take that has this fraction of a GPU.

    Args:
        gpus_per_trial: The fraction, (0, 1].
        total_mib: The GPU's memory, MiB.
    """
    return max(gpus_per_trial * total_mib - CUDA_CONTEXT_MIB, gpus_per_trial * total_mib / 2)


class MicroBatchLimit:
    """How many rows a trial computes at once at most. It is halved each time that memory runs out.

    The gradient of a step stays the same. Dropout draws other random numbers for other pieces, so that each trial finds
    its own limit: one that followed it from the trial before would show in its bits.
    """

    def __init__(self) -> None:
        self.rows: int | None = None
        """The limit; None as long as memory never ran out."""

    def halve(self, tried_rows: int) -> None:
        """Allow half as many rows as were too many.

        Raises:
            OutOfMemory: A single row was too many.
        """
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        if tried_rows <= 1:
            raise OutOfMemory("out of memory with one row at a time")
        self.rows = tried_rows // 2


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error means that memory ran out: Python's own, a CPU tensor's or a GPU's."""
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    # torch has no class of its own for these.
    words = ("can't allocate memory", "not enough memory", "CUBLAS_STATUS_ALLOC_FAILED", "CUDA error: out of memory")
    return isinstance(error, RuntimeError) and any(word in str(error) for word in words)


def peak_memory_mib(device: torch.device) -> float:
    """The most memory so far, MiB: of the tensors on a GPU since its statistics were reset, else of the process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated() / 2**20
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 2**10
