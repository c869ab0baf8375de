"""The connection to a Ray cluster, or a cluster of one's own."""

from __future__ import annotations

import importlib.util
import os
import secrets
import shutil
import signal
import socket
import tempfile
import threading
from pathlib import Path

from robustpolicy.errors import UserError
from robustpolicy.experiments.engines.job import Job
from robustpolicy.experiments.engines.local import cores
from robustpolicy.experiments.engines.ray_task import Driver, software
from robustpolicy.training.pool import one_line

#: Makes Ray listen on the loopback alone; otherwise it does so on every address of the machine,
#: even where its node is told to be 127.0.0.1.
LOOPBACK_ONLY = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0"

#: Bytes of shared memory of a cluster of one's own: what jobs return is small.
OBJECT_STORE = 200_000_000


class Cluster:
    """A Ray cluster to be connected to, or to be started; see :class:`RayEngine`.

    Raises:
        UserError: Ray is not installed.
    """

    def __init__(self, address: str | None, workers: int | None) -> None:
        if importlib.util.find_spec("ray") is None:
            raise UserError("Ray is not installed; pip install 'robustpolicy[ray]'")
        self.address = address or os.environ.get("RAY_ADDRESS") or None
        self.workers = workers
        self._folder: Path | None = None  # Ray's, of a cluster of our own
        self._connected = False

    def connect(self) -> Driver:
        """Connect, or start a cluster.

        Raises:
            UserError: nobody answers, Ray's or Python's versions differ, or Ray does not start.
        """
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        os.environ.setdefault("RAY_IGNORE_UNHANDLED_ERRORS", "1")  # outcomes tell them
        if self.address is None or _is_loopback(self.address):
            os.environ.setdefault(*LOOPBACK_ONLY)
        if self.address is None and not any(name.startswith("RAY_AUTH_") for name in os.environ):
            os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)  # else Ray writes one into $HOME
        import ray

        if not ray.is_initialized():
            handler = signal.getsignal(signal.SIGTERM)
            try:
                if self.address is None:
                    self._start()
                else:
                    self._join(self.address)
            finally:  # Ray takes SIGTERM for itself
                if threading.current_thread() is threading.main_thread():
                    signal.signal(signal.SIGTERM, handler)
        settings = {
            name: value for name, value in os.environ.items() if name.startswith("ROBUSTPOLICY_")
        }
        node = ray.get_runtime_context().get_node_id()
        return Driver(node, os.getcwd(), software(), settings)

    def _start(self) -> None:
        import ray

        if ray.util.get_node_ip_address() != "127.0.0.1":
            raise UserError(
                "Ray would listen on the network, because it was imported before; set "
                f"{'='.join(LOOPBACK_ONLY)} in the environment, or give the address of a cluster"
            )
        # Paths of sockets are limited to 107 bytes, and Ray's own part of them takes 78.
        usual = tempfile.gettempdir()
        self._folder = Path(tempfile.mkdtemp("", "rp-", usual if len(usual) < 25 else "/tmp"))
        self._connected = True
        try:
            ray.init(
                address="local",
                num_cpus=self.workers or cores(),
                include_dashboard=False,
                object_store_memory=OBJECT_STORE,
                log_to_driver=False,
                logging_level="ERROR",
                _temp_dir=str(self._folder),
                _node_ip_address="127.0.0.1",
            )
        except Exception as error:
            self.close()
            raise UserError(
                f"Ray could not be started here ({one_line(error)}); use --engine local, or give "
                "the address of a cluster"
            ) from None

    def _join(self, address: str) -> None:
        import ray

        if address != "auto":
            _check_answers(address)
        try:
            ray.init(address=address, log_to_driver=False, logging_level="ERROR")
        except Exception as error:
            reason = one_line(error).split(". ")[0]
            raise UserError(
                f"cannot connect to the Ray cluster at {address} ({reason}); Ray's and Python's "
                "versions must be the same there, and RAY_AUTH_MODE and the token (docs/cluster.md)"
            ) from None
        self._connected = True

    def check_room(self, job: Job) -> None:
        """Check that a node can take a job when it is empty.

        Raises:
            UserError: none of them can, so it would wait for ever.
        """
        import ray

        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        if not any(
            node.get("CPU", 0) >= job.cpus and node.get("GPU", 0) >= job.gpus for node in nodes
        ):
            most = max((node.get("GPU", 0), node.get("CPU", 0)) for node in nodes)
            raise UserError(
                f"{job.name} asks for {job.cpus:g} CPUs and {job.gpus:g} GPUs of one node, the "
                f"largest has {most[1]:g} and {most[0]:g}; ask for less, or add a node"
            )

    def close(self) -> None:
        """Disconnect, and end what was started."""
        import ray

        if self._connected:
            ray.shutdown()
            self._connected = False
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = None


def _host_and_port(address: str) -> tuple[str, int]:
    host, _, port = address.rpartition(":")
    if not host or "/" in host or not port.isdecimal() or int(port) > 65535:
        raise UserError(
            f"the Ray address is {address!r}; give host:port as `ray start --head` printed it, "
            "auto for a cluster that runs on this machine, or none to start one"
        )
    return host.strip("[]"), int(port)


def _is_loopback(address: str) -> bool:
    if address == "auto":
        return False
    host, _ = _host_and_port(address)
    return host in ("localhost", "::1") or host.startswith("127.")


def _check_answers(address: str) -> None:
    """Check that somebody listens: Ray itself would try for minutes."""
    try:
        socket.create_connection(_host_and_port(address), timeout=10).close()
    except OSError as error:
        raise UserError(
            f"no Ray cluster answers at {address} ({error.strerror or error}); start one by "
            "`ray start --head`, or correct the address"
        ) from None
