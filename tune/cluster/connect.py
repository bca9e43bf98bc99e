"""Connect to a Ray cluster, or start a private Ray on this machine, quietly and behind a token."""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import sys
from collections.abc import Iterator

from trainable.errors import UserError
from tune.cluster.auth import cluster_problems, known_token, private_token, token_problems
from tune.cluster.mps import multi_process_service
from tune.cluster.nodes import Node, local_nodes, nodes_now
from tune.cluster.plan import DEFAULT_GPUS_PER_TRIAL
from tune.cluster.ray_patches import no_worker_messages, small_and_local
from tune.cluster.temporary import temporary_folder
from tune.cluster.versions import refused_versions, version_problem
from tune.process.signals import own_handlers
from tune.process.surroundings import in_source_folder
from tune.spec.sweep_spec import SweepSpec

CONNECT_TIMEOUT_S = 5.0

# Ray and Tune read these variables when they are imported or started. What the user has set stays.
RAY_SETTINGS = {
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_AIR_NEW_OUTPUT": "0",  # the new output prints a banner even with verbose=0
    "RAY_DISABLE_IMPORT_WARNING": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",  # a trial that diverged has no metrics to report
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # with Tune's handler, a sweep that was interrupted looks like a success
    "TUNE_GLOBAL_CHECKPOINT_S": "1000000000",  # the study holds all results; nobody reads Tune's snapshots
    "TUNE_MAX_PENDING_TRIALS_PG": "1000000",  # our searcher decides how many trials may wait
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
    "TOKENIZERS_PARALLELISM": "false",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
}


def ray_is_connected() -> bool:
    """Whether this process is connected to a Ray already, as a notebook's may be."""
    ray = sys.modules.get("ray")
    return ray is not None and bool(ray.is_initialized())


@contextlib.contextmanager
def connected(spec: SweepSpec) -> Iterator[list[Node]]:
    """Give a Ray to run on as long as the context lasts.

    A Ray that this process is connected to already (a notebook's) is used, and stays connected. Otherwise the cluster
    at the spec's address is joined, or, if it names none, a private Ray is started.

    Yields:
        The nodes of that Ray.

    Raises:
        UserError: The cluster does not answer, or it or the notebook's Ray lets in anybody without a token.
    """
    os.environ.update({name: os.environ.get(name, value) for name, value in RAY_SETTINGS.items()})
    logging.getLogger("ray.widgets").setLevel(logging.ERROR)  # in a notebook, its import asks for a package
    import ray

    logging.getLogger("ray").setLevel(logging.ERROR)
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)  # we tell the user of a failed trial ourselves, once
    if ray.is_initialized():
        _refuse_open_cluster(ray.get_runtime_context().gcs_address, "the Ray that this process uses")
        yield nodes_now()
        return
    with contextlib.ExitStack() as stack:
        stack.enter_context(no_worker_messages())
        if spec.address is None:
            (node,) = local_nodes(spec)
            stack.enter_context(_private_ray(spec, node))
            yield [node]
        else:
            stack.enter_context(known_token())
            stack.callback(ray.shutdown)
            with own_handlers():
                _join(spec.address)
            yield nodes_now()


@contextlib.contextmanager
def _private_ray(spec: SweepSpec, node: Node) -> Iterator[None]:
    """Start a Ray of this sweep's own with the resources of `node`, and end it with the context."""
    import ray

    with contextlib.ExitStack() as stack:
        temporary = stack.enter_context(temporary_folder())
        given = spec.gpus_per_trial
        gpus_per_trial = DEFAULT_GPUS_PER_TRIAL if given is None or given == "auto" else given
        if 0 < gpus_per_trial < 1 <= node.gpus:  # several trials are to use one GPU
            stack.enter_context(multi_process_service(temporary))
        stack.enter_context(private_token(temporary))
        stack.callback(ray.shutdown)
        # Ray puts the working directory on the workers' path of imports: a user's datasets.py would be imported there.
        aside = contextlib.nullcontext() if in_source_folder() else contextlib.chdir(temporary)
        with small_and_local(), own_handlers(), aside:
            ray.init(
                address="local",
                num_cpus=int(node.cpus),
                num_gpus=int(node.gpus),
                include_dashboard=False,
                logging_level=logging.ERROR,
                log_to_driver=False,
                # Ray makes this folder readable for everybody; the one above it stays private.
                _temp_dir=str(temporary / "r"),
            )
        yield


def address_problems(address: str | None) -> list[str]:
    """Why there can be no Ray cluster at that address, or none that we join. Ray itself would try for minutes."""
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
        _refuse_open_cluster(head, f"--address {address}")
        ray.init(address=head, logging_level=logging.ERROR, log_to_driver=False)
    except (ConnectionError, RuntimeError, ValueError, TimeoutError) as error:
        if differences := refused_versions(str(error)):
            raise UserError([f"--address {address}: {version_problem(differences)}"]) from error
        reason = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
        hint = "is it running, and is its token known here (RAY_AUTH_TOKEN_PATH)?"
        raise UserError([f"--address {address}: no Ray cluster lets us in ({reason}); {hint}"]) from error


def _refuse_open_cluster(head: str, who: str) -> None:
    if problems := cluster_problems(head, who):
        raise UserError(problems)
