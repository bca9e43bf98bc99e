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
DEFAULT_PIPES = Path("/tmp/nvidia-mps")
TIMEOUT_S = 10.0
CHECK_TIMEOUT_S = 60.0


def gpus_answer(environment: Mapping[str, str]) -> bool:
    """Whether a new process with this environment can compute on every GPU that it sees, and sees one."""
    code = (
        "import torch\nfor i in range(torch.cuda.device_count()): torch.zeros(1, device=i).add_(1).item()\n"
        "assert torch.cuda.device_count()"
    )
    try:
        done = subprocess.run(
            [sys.executable, "-c", code], env=environment, capture_output=True, timeout=CHECK_TIMEOUT_S
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0


@contextlib.contextmanager
def multi_process_service(folder: Path, check: Callable[[Mapping[str, str]], bool] = gpus_answer) -> Iterator[bool]:
    """A private service for all processes that are started in the context; yields whether there is one.

    folder: a short path for its pipes and logs. Where the driver does not offer the service, where somebody has set
    one up already, or where a process under it can't reach the GPUs, everything stays as it is.
    """
    theirs = "CUDA_MPS_PIPE_DIRECTORY" in os.environ or (DEFAULT_PIPES / "control").exists()
    if shutil.which(CONTROL) is None or theirs:
        yield False
        return
    ours = _service_environment(folder)
    for path in ours.values():
        Path(path).mkdir()
    before = {name: os.environ.get(name) for name in ours}
    try:
        started = _control(["-d"], folder) and check({**os.environ, **ours})
        if started:
            os.environ.update(ours)
        yield started
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
        end_service(folder)


def end_service(folder: Path) -> None:
    """End the service of that folder, where there is one: a killed sweep may have left it behind."""
    if (folder / "mps").is_dir() and shutil.which(CONTROL) is not None:
        _control([], folder, "quit\n")


def _service_environment(folder: Path) -> dict[str, str]:
    return {"CUDA_MPS_PIPE_DIRECTORY": str(folder / "mps"), "CUDA_MPS_LOG_DIRECTORY": str(folder / "mps-log")}


def _control(arguments: list[str], folder: Path, typed: str = "") -> bool:
    # The service numbers the GPUs that it sees anew: it has to see all, or its clients' numbers would mean others.
    seen = {name: value for name, value in os.environ.items() if name != "CUDA_VISIBLE_DEVICES"}
    try:
        done = subprocess.run(
            [CONTROL, *arguments],
            env={**seen, **_service_environment(folder)},
            input=typed,
            text=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=TIMEOUT_S,
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0
