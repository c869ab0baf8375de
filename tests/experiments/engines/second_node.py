"""A node that joins a head on the loopback: ADDRESS CPUS. (`ray start` refuses it there.)"""

import sys
import time

import ray._private.node
from ray._private.parameter import RayParams

if __name__ == "__main__":
    ray._private.node.Node(
        RayParams(
            gcs_address=sys.argv[1],
            node_ip_address="127.0.0.1",
            num_cpus=int(sys.argv[2]),
            object_store_memory=100_000_000,
            min_worker_port=0,
            max_worker_port=0,
            node_manager_port=0,
            dashboard_agent_listen_port=None,
            include_log_monitor=False,
        ),
        head=False,
        spawn_reaper=False,
    )
    print("Ray runtime started", flush=True)
    time.sleep(1000)
