"""Connect to Ray or start a private one, quietly; see what it offers, now and later."""

from __future__ import annotations

import contextlib
import fcntl
import json
import logging
import os
import re
import shutil
import socket
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from trainable.errors import UserError
from tune.cluster.auth import cluster_problems, known_token, private_token, token_problems
from tune.cluster.mps import end_service, multi_process_service
from tune.cluster.plan import ACCELERATOR, DEFAULT_GPU_SHARE, Growth, Node, growth
from tune.process.supervisor import own_handlers
from tune.spec.sweep_spec import SweepSpec

CONNECT_TIMEOUT_S = 5.0
GCS_TRIES = 4  # a control service that is started anew within this many pauses is not taken for dead

# Ray and Tune read these when they are imported or started.
QUIET = {
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_AIR_NEW_OUTPUT": "0",  # its banner ignores verbose=0
    "RAY_DISABLE_IMPORT_WARNING": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",  # a trial that diverged has no metrics to report
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # else Ctrl-C looks like success
    "TUNE_GLOBAL_CHECKPOINT_S": "1000000000",  # the study remembers; Tune's snapshots are never read
    "TUNE_MAX_PENDING_TRIALS_PG": "1000000",  # the searcher says how many may wait
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
    "TOKENIZERS_PARALLELISM": "false",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
}


def in_use() -> bool:
    """Whether this process is connected to a Ray already (a notebook's, say)."""
    ray = sys.modules.get("ray")
    return ray is not None and bool(ray.is_initialized())


def local_nodes(spec: SweepSpec) -> list[Node]:
    """What a private local Ray would offer: this process's cores and GPUs, or what the spec says."""
    cpus = spec.num_cpus if spec.num_cpus is not None else usable_cores()
    gpus = spec.num_gpus if spec.num_gpus is not None else usable_gpus()
    return [Node(cpus, gpus, here=True)]


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
    where the cluster that the spec names does not answer, and where it or the notebook's lets in anybody.
    """
    os.environ.update({name: os.environ.get(name, value) for name, value in QUIET.items()})
    import ray
    from ray._private import worker

    logging.getLogger("ray").setLevel(logging.ERROR)
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)  # a failed trial is told by us, once
    if ray.is_initialized():
        _check(ray.get_runtime_context().gcs_address, "the Ray that this process uses")
        yield nodes_now()
        return
    with contextlib.ExitStack() as stack:
        stack.enter_context(replaced(worker, print_to_stdstream=_nothing))  # a worker's death is told by us
        temporary = stack.enter_context(temporary_folder())
        given = spec.gpus_per_trial
        share = DEFAULT_GPU_SHARE if given is None or given == "auto" else given
        if spec.address is None and 0 < share < 1 <= local_nodes(spec)[0].gpus:
            stack.enter_context(multi_process_service(temporary))
        stack.enter_context(private_token(temporary) if spec.address is None else known_token())
        stack.callback(ray.shutdown)
        if spec.address is None:
            node = local_nodes(spec)[0]
            with _small_and_local(), own_handlers():
                ray.init(
                    address="local",
                    num_cpus=int(node.cpus),
                    num_gpus=int(node.gpus),
                    include_dashboard=False,
                    logging_level=logging.ERROR,
                    log_to_driver=False,
                    _temp_dir=str(temporary / "r"),  # Ray opens this folder to everybody, the one above stays ours
                )
            yield [node]
        else:
            with own_handlers():
                _join(spec.address)
            yield nodes_now()


@contextlib.contextmanager
def _small_and_local() -> Iterator[None]:
    """Start no dashboard, autoscaler and log monitor, and listen on loopback only.

    Nobody reads those helpers here, and they cost a second at either end. Ray has no setting for either: where it has
    renamed a method, that helper starts as ever. The switch is the one that keeps its ports local on desktop systems.
    """
    from ray._private import ray_constants
    from ray._private.node import Node as RayNode

    nothing = dict.fromkeys(("start_api_server", "start_monitor", "start_log_monitor"), _nothing)
    with replaced(ray_constants, ENABLE_RAY_CLUSTER=False), replaced(RayNode, **nothing):
        yield


def _nothing(*arguments: Any, **options: Any) -> None:
    """In a function's place that is not to be called."""


@contextlib.contextmanager
def replaced(owner: Any, **values: Any) -> Iterator[None]:
    """Other values of attributes, as far as there are such."""
    originals = {name: getattr(owner, name) for name in values if hasattr(owner, name)}
    for name in originals:
        setattr(owner, name, values[name])
    try:
        yield
    finally:
        for name, original in originals.items():
            setattr(owner, name, original)


def address_problems(address: str | None) -> list[str]:
    """Why nothing can be a Ray cluster at that address, or none that is joined; Ray itself would try for minutes."""
    if address is None:
        return []
    if address == "auto":
        return token_problems(f"--address {address}")
    host, colon, port = address.rpartition(":")
    if not colon or not host or "/" in host or not port.isdigit() or not 0 < int(port) < 65536:
        return [f"--address must be auto or host:port, but got {address!r}"]
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=CONNECT_TIMEOUT_S).close()
    except OSError as error:
        return [f"--address {address}: nothing answers there ({error.strerror or error}); is the cluster running?"]
    return token_problems(f"--address {address}")


def _join(address: str) -> None:
    import ray
    from ray._private.services import canonicalize_bootstrap_address_or_die

    try:
        head = canonicalize_bootstrap_address_or_die(address)
        _check(head, f"--address {address}")
        ray.init(address=head, logging_level=logging.ERROR, log_to_driver=False)
    except (ConnectionError, RuntimeError, ValueError, TimeoutError) as error:
        if other := _other_versions(str(error)):
            raise UserError([f"--address {address}: {version_problem(other)}"]) from error
        reason = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
        hint = "is it running, and is its token known here (RAY_AUTH_TOKEN_PATH)?"
        raise UserError([f"--address {address}: no Ray cluster lets us in ({reason}); {hint}"]) from error


def version_problem(other: str) -> str:
    """The sentence about versions that are not the driver's."""
    return f"{other}; the versions must be the same on every node and here"


def _other_versions(said: str) -> str | None:
    """What the cluster has and what is here, where Ray refuses to join it for that; else None."""
    if not said.startswith("Version mismatch"):
        return None
    there, here = (dict(re.findall(r"^\s+(Ray|Python): (\S+)", part, re.M)) for part in said.split("This process", 1))
    return ", ".join(f"{name} {there[name]} (here {here.get(name)})" for name in there if there[name] != here.get(name))


def _check(head: str, who: str) -> None:
    if problems := cluster_problems(head, who):
        raise UserError(problems)


@contextlib.contextmanager
def temporary_folder() -> Iterator[Path]:
    """A folder that goes when the context ends, or when a later sweep finds that its owner was killed.

    Only its user may enter it. The owner holds a lock on it, which ends with its process. The path is short: those of
    Unix sockets in it must stay under 107 bytes.
    """
    for left in Path("/tmp").glob("ft-*/owner"):
        with contextlib.suppress(OSError), _ours(left).open() as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            end_service(left.parent)
            shutil.rmtree(left.parent, ignore_errors=True)
    folder = Path(tempfile.mkdtemp(prefix="ft-", dir="/tmp"))
    with (folder / "owner").open("w") as owner:
        fcntl.flock(owner, fcntl.LOCK_EX)
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def _ours(left: Path) -> Path:
    """The same path. Raises PermissionError where somebody else, who may write to /tmp too, has put it there."""
    for path in (left.parent, left):
        if path.is_symlink() or path.lstat().st_uid != os.getuid():
            raise PermissionError(f"{path} is not ours")
    return left


def nodes_now() -> list[Node]:
    """The cluster's nodes that are alive; those without resources are among them."""
    import ray

    alive = [node for node in ray.nodes() if node["Alive"]]  # type: ignore[no-untyped-call]
    names = node_names(alive)
    nodes = []
    for node in alive:
        has = node["Resources"]
        kinds = tuple(name.removeprefix(ACCELERATOR) for name in has if name.startswith(ACCELERATOR))
        cores, gpus, id_ = float(has.get("CPU", 0)), float(has.get("GPU", 0)), node["NodeID"]
        nodes.append(Node(cores, gpus, name=names[id_], id=id_, accelerators=kinds))
    return nodes


def node_names(table: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """What to call the nodes of ray.nodes(), by id: host and address, and the id's start where two share these."""
    names = {node["NodeID"]: f"{node['NodeManagerHostname']} ({node['NodeManagerAddress']})" for node in table}
    counts = Counter(names.values())
    return {id_: name if counts[name] == 1 else f"{name[:-1]}, {id_[:6]})" for id_, name in names.items()}


def growth_now() -> Growth:
    """Who starts the cluster's nodes: Ray names no autoscaler, but both of its generations name their nodes' types."""
    import ray
    from ray._private import ray_constants
    from ray.experimental.internal_kv import _internal_kv_get

    nodes = ray.nodes()  # type: ignore[no-untyped-call]
    types = {node.get("Labels", {}).get("ray.io/node-group", "") for node in nodes if node["Alive"]}
    status = json.loads(_internal_kv_get(ray_constants.DEBUG_AUTOSCALING_STATUS) or b"{}")  # the first generation's
    report = status.get("autoscaler_report") or {}
    return growth([*types, *report.get("active_nodes", ())])


def what_died() -> str | None:
    """Which process of Ray's is gone without which this one can't go on, in words; None where all live."""
    import ray
    from ray._private import worker

    node: Any = worker._global_node
    if node is None or not ray.is_initialized():
        return None
    if node.head:  # a private Ray: its processes are this one's children
        for kind, processes in list(node.all_processes.items()):
            if any(process.process.poll() is not None for process in processes):
                return f"Ray's {kind} died"
        return None
    try:  # Tune would go on without the raylet beside it as far as the workers last that it has
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(CONNECT_TIMEOUT_S)
            connection.connect(node.raylet_socket_name)
    except OSError:
        return f"the raylet of the Ray cluster at {node.gcs_address} on this machine died"
    for _ in range(GCS_TRIES):
        try:
            host, _, port = str(node.gcs_address).rpartition(":")
            socket.create_connection((host, int(port)), timeout=CONNECT_TIMEOUT_S).close()
            return None
        except OSError:
            time.sleep(CONNECT_TIMEOUT_S)
    return f"the head of the Ray cluster at {node.gcs_address} does not answer any more"
