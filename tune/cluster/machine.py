"""What this process may use of this machine: cores, memory and GPUs.

psutil and nvidia-ml-py are no replacement: psutil does not read a control group's limits, and NVML lists GPUs that
CUDA_VISIBLE_DEVICES hides.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import psutil

VISIBLE = "CUDA_VISIBLE_DEVICES"

# Of workers that train BERTs on a CPU with rows of 128 tokens: 1.2 to 1.6 GiB for MiniLM-L6 (0.085 GiB of weights),
# 3.4 for BERT-base (0.41), 9.5 for BERT-large (1.25); with rows of 512 tokens 4.6 for BERT-base.
PROCESS_BYTES, CPU_COPIES = 1 << 30, 7  # weights, gradients, two moments, the best weights, and what a batch computes
GPU_PROCESS_BYTES, GPU_COPIES = 3 << 29, 2  # CUDA itself and the weights on their way to the GPU


def usable_cores(root: Path = Path("/")) -> int:
    """CPU cores that this process may use: its affinity, and the quotas of its control groups (a container's limit).

    Args:
        root: Where /proc and /sys are.
    """
    cores = float(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)
    return max(1, int(min([cores, *_quotas(root)])))


def usable_memory(root: Path = Path("/")) -> int:
    """Bytes of memory that this process may use: the machine's, and the limits of its control groups."""
    limits = []
    for folder, is_v1 in _groups("memory", root):
        with contextlib.suppress(OSError, ValueError):  # "max" is no integer: no limit
            limits.append(int((folder / ("memory.limit_in_bytes" if is_v1 else "memory.max")).read_text()))
    return min([psutil.virtual_memory().total, *limits])


def worker_bytes(model_bytes: int, on_gpu: bool) -> int:
    """About how much of the machine's memory a worker takes.

    Args:
        model_bytes: The weights in float32.
        on_gpu: Whether it trains on a GPU.
    """
    if on_gpu:
        return GPU_PROCESS_BYTES + GPU_COPIES * model_bytes
    return PROCESS_BYTES + CPU_COPIES * model_bytes


def _quotas(root: Path) -> Iterator[float]:
    """The quota of each control group that this process is in, and of those above it, in cores."""
    for folder, is_v1 in _groups("cpu", root):
        with contextlib.suppress(OSError, ValueError, ZeroDivisionError):
            yield _quota_v1(folder) if is_v1 else _quota_v2(folder)


def _groups(controller: str, root: Path) -> Iterator[tuple[Path, bool]]:
    """The folders of the control groups that this process is in, and of those above; whether each is of version 1."""
    groups: list[tuple[str, str]] = []  # the controllers ("" for version 2) and the path
    with contextlib.suppress(OSError, ValueError):
        for line in (root / "proc/self/cgroup").read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            groups.append((controllers, path.strip("/")))
    for controllers, path in groups or [("", "")]:
        if controllers and controller not in controllers.split(","):
            continue
        mount = root / "sys/fs/cgroup" / controllers
        # Inside a container the path may be the one outside: the mount's own files are then the container's.
        for folder in (mount / path, *(mount / path).parents):
            if not folder.is_relative_to(mount):
                break
            yield folder, bool(controllers)


def _quota_v1(folder: Path) -> float:
    quota = int((folder / "cpu.cfs_quota_us").read_text())
    if quota <= 0:
        raise ValueError("no quota")
    return quota / int((folder / "cpu.cfs_period_us").read_text())


def _quota_v2(folder: Path) -> float:
    quota, period = (folder / "cpu.max").read_text().split()
    return int(quota) / int(period)  # "max" is no integer: no quota


def usable_gpus(root: Path = Path("/")) -> int:
    """NVIDIA GPUs that this process may use; found without importing torch, which takes seconds.

    Args:
        root: Where /proc and /dev are.
    """
    there = _gpus_there(root)
    visible = os.environ.get(VISIBLE)
    if visible is None:
        return there or 0
    count = 0
    for name in visible.split(","):
        bare = name.strip()
        is_one = bare.isdigit() and (there is None or int(bare) < there)
        if not is_one and not (bare.startswith(("GPU-", "MIG-")) and there != 0):
            break  # CUDA takes no name behind one that it does not know
        count += 1
    return count


def _gpus_there(root: Path) -> int | None:
    """The GPUs of this machine; None where there are some and nobody says how many (Windows' Linux, Jetson)."""
    with contextlib.suppress(OSError):
        return len(list((root / "proc/driver/nvidia/gpus").iterdir()))
    return None if any((root / "dev" / name).exists() for name in ("dxg", "nvhost-gpu", "nvidiactl")) else 0


def no_gpu_note(root: Path = Path("/")) -> str:
    """Why trials train on the CPU although CUDA_VISIBLE_DEVICES names GPUs or hides them; empty if it does neither."""
    visible = os.environ.get(VISIBLE)
    if visible is None or usable_gpus(root):
        return ""
    if not visible.strip() or visible.strip() in ("-1", "NoDevFiles"):
        hides = _gpus_there(root) != 0
        return f"{VISIBLE}={visible} hides this machine's GPUs: trials train on the CPU" if hides else ""
    return f"{VISIBLE}={visible} names no GPU of this machine: trials train on the CPU"
