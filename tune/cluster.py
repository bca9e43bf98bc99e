"""Connect to Ray or start a private one, quietly; count what it offers."""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from trainable.errors import UserError
from tune.plan import Node
from tune.spec import SweepSpec

# Ray and Tune read these when they are imported or started.
QUIET = {
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_AIR_NEW_OUTPUT": "0",  # its banner ignores verbose=0
    "RAY_DISABLE_IMPORT_WARNING": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # else Ctrl-C looks like success
    "TUNE_GLOBAL_CHECKPOINT_S": "1000000000",  # the study remembers; Tune's snapshots are never read
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
    "TOKENIZERS_PARALLELISM": "false",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
}


def local_nodes(spec: SweepSpec) -> list[Node]:
    """What a private local Ray would offer: this process's cores and GPUs, or what the spec says."""
    cpus = spec.num_cpus if spec.num_cpus is not None else usable_cores()
    gpus = spec.num_gpus if spec.num_gpus is not None else usable_gpus()
    return [Node(cpus, gpus)]


def usable_cores() -> int:
    """Cores that this process may use: its affinity, and its control group's quota (a container's limit)."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    with contextlib.suppress(OSError, ValueError):
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        if quota != "max":
            cores = min(cores, max(1, int(int(quota) / int(period))))
    return cores


def usable_gpus() -> int:
    """NVIDIA GPUs that this process may use, without importing torch."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return len([name for name in visible.split(",") if name.strip() and name.strip() != "-1"])
    with contextlib.suppress(OSError):
        return len(list(Path("/proc/driver/nvidia/gpus").iterdir()))
    return 0


@contextlib.contextmanager
def connected(spec: SweepSpec) -> Iterator[list[Node]]:
    """A Ray to run on, as long as the context lasts; yields its nodes.

    A Ray that this process is connected to already is used and left as it is (a notebook's, say). Raises UserError
    where the cluster that the spec names does not answer.
    """
    os.environ.update({name: os.environ.get(name, value) for name, value in QUIET.items()})
    import ray

    logging.getLogger("ray").setLevel(logging.ERROR)
    if ray.is_initialized():
        yield _nodes()
        return
    # Unix sockets' paths stay under 107 bytes only in a short folder.
    temporary = Path(tempfile.mkdtemp(prefix="ft-", dir="/tmp")) if spec.address is None else None
    try:
        if temporary is not None:
            node = local_nodes(spec)[0]
            ray.init(
                address="local",
                num_cpus=int(node.cpus),
                num_gpus=int(node.gpus),
                include_dashboard=False,
                logging_level=logging.ERROR,
                log_to_driver=False,
                _temp_dir=str(temporary),
            )
        else:
            try:
                ray.init(address=spec.address, logging_level=logging.ERROR, log_to_driver=False)
            except (ConnectionError, RuntimeError, ValueError, TimeoutError) as error:
                reason = str(error).strip().splitlines()[0]
                raise UserError([f"--address {spec.address}: no Ray cluster answers: {reason}"]) from error
        yield _nodes()
    finally:
        ray.shutdown()
        if temporary is not None:
            shutil.rmtree(temporary, ignore_errors=True)


def _nodes() -> list[Node]:
    import ray

    alive = [node["Resources"] for node in ray.nodes() if node["Alive"]]  # type: ignore[no-untyped-call]
    return [Node(float(r.get("CPU", 0)), float(r.get("GPU", 0))) for r in alive]
