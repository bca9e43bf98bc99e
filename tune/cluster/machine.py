"""What this process may use of this machine: cores and GPUs.

psutil and nvidia-ml-py are no replacement: psutil does not read a control group's quota, and NVML lists GPUs that
CUDA_VISIBLE_DEVICES hides.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path


def usable_cores() -> int:
    """CPU cores that this process may use: its affinity, and its control group's quota (a container's limit)."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    with contextlib.suppress(OSError, ValueError):
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        if quota != "max":
            cores = min(cores, max(1, int(int(quota) / int(period))))
    return cores


def usable_gpus() -> int:
    """NVIDIA GPUs that this process may use; found without importing torch, which takes seconds."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return len([name for name in visible.split(",") if name.strip() and name.strip() != "-1"])
    with contextlib.suppress(OSError):
        return len(list(Path("/proc/driver/nvidia/gpus").iterdir()))
    return 0
