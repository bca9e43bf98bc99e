"""Run a cluster on Ray's simulated provider: a head without slots, and up to three nodes that its autoscaler starts.

    python -m tests.cluster.simulated GENERATION    of the autoscaler, 1 or 2

It ends every Ray process that it can see, and mounts files. So run it in a host of its own; it ends with the host.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import yaml

MOST_NODES = 3
IDLE_MINUTES = 0.1
WORKER = {"resources": {"CPU": 1, "GPU": 1}, "node_config": {}, "min_workers": 0, "max_workers": MOST_NODES}
COMMANDS = ("initialization", "setup", "head_setup", "worker_setup", "head_start_ray", "worker_start_ray")
SETTINGS = {
    "cluster_name": "simulated",
    "max_workers": MOST_NODES,
    "upscaling_speed": 1.0,
    "idle_timeout_minutes": IDLE_MINUTES,
    "provider": {
        "type": "fake_multinode",
        "use_node_id_as_ip": True,
        "disable_node_updaters": True,
        "disable_launch_config_check": True,
    },
    "available_node_types": {"ray.head.default": {"resources": {"CPU": 0}, "node_config": {}, "max_workers": 0}},
    "head_node_type": "ray.head.default",
    "auth": {},
    "docker": {},
    "file_mounts": {},
    "cluster_synced_files": [],
    "file_mounts_sync_continuously": False,
    "rsync_exclude": [],
    "rsync_filter": [],
    **{f"{name}_commands": [] for name in COMMANDS},
}


def main() -> None:
    import ray.autoscaler._private.fake_multi_node as provider
    from ray.cluster_utils import AutoscalingCluster

    # Ray's wheels lack the file with the provider's settings, so it is mounted into this host.
    folder = Path(provider.__file__).parent
    whole = shutil.copytree(folder, f"/run/{folder.name}")
    Path(whole, "example.yaml").write_text(yaml.safe_dump(SETTINGS))
    subprocess.run(["mount", "--bind", whole, str(folder)], check=True)

    second = sys.argv[1] == "2"
    cluster = AutoscalingCluster({"CPU": 0}, {"worker": WORKER}, autoscaler_v2=second)
    # `ray up` sets this for the head if version 2 of the autoscaler is used.
    cluster.start(override_env={"RAY_NODE_TYPE_NAME": "ray.head.default"} if second else None)


if __name__ == "__main__":
    main()
