"""Whether the processes of Ray that a sweep can't do without are alive."""

from __future__ import annotations

import socket
import time
from typing import Any

SOCKET_TIMEOUT_S = 5.0
HEAD_ATTEMPTS = 4  # a head that is restarted within so many timeouts is not taken for dead


def what_died() -> str | None:
    """Which process of Ray's is gone without which this one can't go on, in words; None if all of them live.

    If the raylet on this machine dies, Tune keeps waiting for its workers. So we check the processes ourselves, and the
    sweep stops with a message.
    """
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
    if not _raylet_answers(node.raylet_socket_name):
        return f"the raylet of the Ray cluster at {node.gcs_address} on this machine died"
    if not _head_answers(str(node.gcs_address)):
        return f"the head of the Ray cluster at {node.gcs_address} does not answer any more"
    return None


def _raylet_answers(path: str) -> bool:
    try:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(SOCKET_TIMEOUT_S)
            connection.connect(path)
    except OSError:
        return False
    return True


def _head_answers(address: str) -> bool:
    host, _, port = address.rpartition(":")
    for _ in range(HEAD_ATTEMPTS):
        try:
            socket.create_connection((host, int(port)), timeout=SOCKET_TIMEOUT_S).close()
            return True
        except OSError:
            time.sleep(SOCKET_TIMEOUT_S)
    return False
