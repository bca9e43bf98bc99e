"""NVIDIA's multi-process service: kernels of several trials on one GPU at a time, instead of in turns."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

CONTROL = "nvidia-cuda-mps-control"
START_TIMEOUT_S = 10.0
CHECK_TIMEOUT_S = 60.0


def gpu_answers(environment: Mapping[str, str]) -> bool:
    """Whether a new process with this environment can compute on the GPU."""
    command = [sys.executable, "-c", "import torch; torch.zeros(1, device='cuda').add_(1).item()"]
    try:
        return subprocess.run(command, env=environment, capture_output=True, timeout=CHECK_TIMEOUT_S).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


@contextlib.contextmanager
def multi_process_service(folder: Path, check: Callable[[Mapping[str, str]], bool] = gpu_answers) -> Iterator[bool]:
    """A private service for all processes that are started in the context; yields whether there is one.

    folder: a short path for its pipes and logs. Where the driver does not offer the service, where somebody has set
    one up already, or where a process under it can't reach the GPU, everything stays as it is.
    """
    control = shutil.which(CONTROL)
    if control is None or "CUDA_MPS_PIPE_DIRECTORY" in os.environ:
        yield False
        return
    ours = {"CUDA_MPS_PIPE_DIRECTORY": str(folder / "mps"), "CUDA_MPS_LOG_DIRECTORY": str(folder / "mps-log")}
    for path in ours.values():
        Path(path).mkdir()
    environment = {**os.environ, **ours}
    try:
        started = _control(control, ["-d"], environment) and check(environment)
        if started:
            os.environ.update(ours)
        yield started
    finally:
        for name in ours:
            os.environ.pop(name, None)
        _control(control, [], environment, "quit\n")


def _control(control: str, arguments: list[str], environment: Mapping[str, str], typed: str = "") -> bool:
    try:
        done = subprocess.run(
            [control, *arguments],
            env=environment,
            input=typed,
            text=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=START_TIMEOUT_S,
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0
