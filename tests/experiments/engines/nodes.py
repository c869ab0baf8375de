"""Ray nodes of this machine, on its loopback; processes and what they listen on."""

import contextlib
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[3]

#: Of Ray, for all processes of the tests: set before it is imported.
RAY = {
    "RAY_AUTH_MODE": "token",
    "RAY_AUTH_TOKEN": os.environ.get("RAY_AUTH_TOKEN") or secrets.token_hex(32),
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # listen on the loopback alone
    "RAY_USAGE_STATS_ENABLED": "0",
}

ENVIRONMENT = {
    **os.environ,
    **RAY,
    "OMP_NUM_THREADS": "1",
    "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(ROOT)]),
}


class Nodes:
    """A head, and nodes that join it; all end with the context."""

    def __enter__(self):
        self.folder = Path(tempfile.mkdtemp(prefix="rp-", dir="/tmp"))  # paths of sockets are short
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.address = f"127.0.0.1:{free.getsockname()[1]}"
        self.processes = []
        return self

    def start(self, cpus, before=()):
        """Start a node; the first is the head."""
        number = len(self.processes)
        if number == 0:
            port = self.address.split(":")[1]
            command = ["ray.scripts.scripts", "start", "--block", "--head", f"--port={port}",
                       "--node-ip-address=127.0.0.1", f"--num-cpus={cpus}",
                       "--include-dashboard=false", f"--temp-dir={self.folder}",
                       "--object-store-memory=100000000"]  # fmt: skip
        else:
            command = ["tests.experiments.engines.second_node", self.address, str(cpus)]
        command = [*before, sys.executable, "-m", *command]
        log = (self.folder / f"node{number}.log").open("w")
        process = subprocess.Popen(
            command, stdout=log, stderr=log, env=ENVIRONMENT, start_new_session=True
        )
        self.processes.append(process)
        log = Path(log.name)
        wait_until(lambda: "Ray runtime started" in log.read_text(), 90, log.read_text)
        return process

    def cut_off(self, process):
        """End a node as a power failure does."""
        for pid in session(process.pid):
            kill(pid)
        process.wait()

    def __exit__(self, *error):
        for process in self.processes:
            process.terminate()
        for process in self.processes:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(20)
            self.cut_off(process)
        shutil.rmtree(self.folder)


def session(leader):
    """Processes of a session."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[3]) == leader and fields[0] != "Z":
            found.append(int(path.parent.name))
    return found


def kill(pid):
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def listens_on(pids):
    """Addresses that processes listen on, as the kernel writes them."""
    sockets = set()
    for pid in pids:
        for link in Path(f"/proc/{pid}/fd").glob("*"):
            try:
                sockets.add(os.readlink(link))
            except OSError:
                continue
    found = set()
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and f"socket:[{fields[9]}]" in sockets:
                found.add(fields[1].split(":")[0])
    return found


def wait_until(condition, seconds, explain=lambda: ""):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, explain()
        time.sleep(0.05)
