"""A cluster on Ray's own simulated provider: a head without slots, and up to three nodes that its autoscaler starts.

    python -m tests.cluster.simulated GENERATION    of the autoscaler, 1 or 2

Ends every Ray process that it can see: to be run in a process namespace of its own, where it ends with that.
"""

from __future__ import annotations

import sys
from typing import Any

from ray.autoscaler._private.fake_multi_node.node_provider import FAKE_HEAD_NODE_ID
from ray.cluster_utils import AutoscalingCluster

MOST_NODES = 3
IDLE_MINUTES = 0.1


class SimulatedCluster(AutoscalingCluster):  # type: ignore[misc]
    """With settings of our own in the place of a file that Ray's wheels lack."""

    def _generate_config(
        self, head_resources: Any, worker_node_types: Any, autoscaler_v2: bool = False, **config: Any
    ) -> Any:
        """The cluster's configuration as `ray start --autoscaling-config` reads it."""
        nothing = ("setup", "head_setup", "worker_setup", "head_start_ray", "worker_start_ray", "initialization")
        head = {"resources": head_resources, "node_config": {}, "max_workers": 0}
        generation = {"launch_multiple": True, "head_node_id": FAKE_HEAD_NODE_ID} if autoscaler_v2 else {}
        return {
            "cluster_name": "simulated",
            "max_workers": MOST_NODES,
            "upscaling_speed": 1.0,
            "idle_timeout_minutes": IDLE_MINUTES,
            "provider": {
                "type": "fake_multinode",
                "use_node_id_as_ip": True,
                "disable_node_updaters": True,
                "disable_launch_config_check": True,
                **generation,
            },
            "available_node_types": {**worker_node_types, "ray.head.default": head},
            "head_node_type": "ray.head.default",
            "auth": {},
            "docker": {},
            "file_mounts": {},
            "cluster_synced_files": [],
            "file_mounts_sync_continuously": False,
            "rsync_exclude": [],
            "rsync_filter": [],
            **{f"{name}_commands": [] for name in nothing},
            **config,
        }


def main() -> None:
    worker = {"resources": {"CPU": 1, "GPU": 1}, "node_config": {}, "min_workers": 0, "max_workers": MOST_NODES}
    second = sys.argv[1] == "2"
    cluster = SimulatedCluster({"CPU": 0}, {"worker": worker}, autoscaler_v2=second)
    # As `ray up` sets it for the head where the second generation is used.
    cluster.start(override_env={"RAY_NODE_TYPE_NAME": "ray.head.default"} if second else None)


if __name__ == "__main__":
    main()
