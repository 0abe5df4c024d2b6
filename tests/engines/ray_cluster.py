"""A Ray of three nodes on this machine: a head that runs nothing, and the nodes `a` and `b` with pretended GPUs.

    python ray_cluster.py FILE      writes {"address", "pids": {"a": pid of its raylet, "b": ...}}; ends on SIGTERM

All of its processes are children of this one; nothing is ended by its name.
"""

import json
import os
import signal
import sys
from pathlib import Path

# else a token is made below the home folder, and every client is asked for it
os.environ |= {"RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0"}


def main(file: Path) -> None:
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    nodes = {name: cluster.add_node(num_cpus=2, num_gpus=2, resources={name: 2}) for name in "ab"}
    pids = {name: node.all_processes["raylet"][0].process.pid for name, node in nodes.items()}
    temporary = file.with_suffix(".tmp")
    temporary.write_text(json.dumps({"address": cluster.address, "pids": pids}))
    temporary.replace(file)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    try:
        signal.pause()
    finally:
        cluster.shutdown()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
