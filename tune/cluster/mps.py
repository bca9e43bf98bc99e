"""NVIDIA's multi-process service (MPS). With it the trials on one GPU compute at the same time, instead of in turns."""

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
CONTROL_TIMEOUT_S = 10.0
GPU_CHECK_TIMEOUT_S = 60.0


def gpus_answer(environment: Mapping[str, str]) -> bool:
    """Whether a new process with this environment sees a GPU, and can compute on every GPU that it sees."""
    code = (
        "import torch\nfor i in range(torch.cuda.device_count()): torch.zeros(1, device=i).add_(1).item()\n"
        "assert torch.cuda.device_count()"
    )
    try:
        done = subprocess.run(
            [sys.executable, "-c", code], env=environment, capture_output=True, timeout=GPU_CHECK_TIMEOUT_S
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0


@contextlib.contextmanager
def multi_process_service(folder: Path, check: Callable[[Mapping[str, str]], bool] = gpus_answer) -> Iterator[bool]:
    """Run a private service for all processes that are started in the context.

    Nothing is changed where NVIDIA's driver has no such service, where somebody else's service runs already, or where
    a process under the service can't reach the GPUs.

    Args:
        folder: Where the service's pipes and logs go; its path must be short.
        check: Whether a process with a given environment can use the GPUs.

    Yields:
        Whether the service runs.
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
    """End the service of that folder, if there is one. A sweep that was killed leaves its service running."""
    if (folder / "mps").is_dir() and shutil.which(CONTROL) is not None:
        _control([], folder, "quit\n")


def _service_environment(folder: Path) -> dict[str, str]:
    return {"CUDA_MPS_PIPE_DIRECTORY": str(folder / "mps"), "CUDA_MPS_LOG_DIRECTORY": str(folder / "mps-log")}


def _control(arguments: list[str], folder: Path, typed: str = "") -> bool:
    """Run the service's control program with these arguments and this input; whether it succeeded."""
    # The service numbers the GPUs that it sees from 0. It must see all of them, or a client's numbers would mean
    # other GPUs than the client expects.
    seen = {name: value for name, value in os.environ.items() if name != "CUDA_VISIBLE_DEVICES"}
    try:
        done = subprocess.run(
            [CONTROL, *arguments],
            env={**seen, **_service_environment(folder)},
            input=typed,
            text=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=CONTROL_TIMEOUT_S,
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0
