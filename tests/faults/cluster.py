"""A Ray cluster on this machine that a test may break: a head without slots, and nodes with one core each.

    python -m tests.faults.cluster NODES    as long as its input is open; every line of it adds a node

Prints a line for each node, {"address": "HOST:PORT", "raylet": pid, "gcs": pid or null}, the head's first. All of its
processes are in its process group.
"""

from __future__ import annotations

import json
import sys
from typing import Any


def main() -> None:
    from ray.cluster_utils import Cluster

    cluster = Cluster()

    def add(cpus: int) -> None:
        node: Any = cluster.add_node(num_cpus=cpus, include_dashboard=False)
        pids = {kind: processes[0].process.pid for kind, processes in node.all_processes.items()}
        print(json.dumps({"address": cluster.address, "raylet": pids["raylet"], "gcs": pids.get("gcs_server")}))
        sys.stdout.flush()

    add(0)
    for _ in range(int(sys.argv[1])):
        add(1)
    for _ in sys.stdin:
        add(1)


if __name__ == "__main__":
    main()
