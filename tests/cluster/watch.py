"""Print the nodes of a Ray cluster whenever they change, as a line of JSON: [seconds since 1970, [resources of each]].

    python -m tests.cluster.watch HOST:PORT

It does not join the cluster and needs no Ray on its own machine, only the token.
"""

from __future__ import annotations

import json
import sys
import time


def main() -> None:
    from ray._raylet import GcsClient  # type: ignore[attr-defined]
    from ray.core.generated.gcs_pb2 import GcsNodeInfo

    before = None
    while True:
        try:
            nodes = GcsClient(address=sys.argv[1]).get_all_node_info(timeout=5).values()
        except Exception:  # the head has not started yet, or has ended
            nodes = []
        alive = [node for node in nodes if node.state == GcsNodeInfo.ALIVE]
        there = sorted((dict(sorted(node.resources_total.items())) for node in alive), key=str)
        if there != before:
            print(json.dumps([time.time(), there]), flush=True)
            before = there
        time.sleep(0.2)


if __name__ == "__main__":
    main()
