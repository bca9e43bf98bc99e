"""Memory of a worker process."""

from __future__ import annotations

import ctypes
import resource
import sys

import torch

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
        context = CUDA_CONTEXT_MIB * 2**20 / torch.cuda.get_device_properties(device).total_memory
        torch.cuda.set_per_process_memory_fraction(max(share - context, share / 2), device)


def peak_memory_mib() -> float:
    """The most memory that this process ever had resident, MiB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 2**10
