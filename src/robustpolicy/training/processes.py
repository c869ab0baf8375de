"""Several processes at a time: errors in one line, no orphans, results in order."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from multiprocessing import connection
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from typing import Any

from robustpolicy.errors import UserError
from robustpolicy.training.signals import Interrupted, StopRequests


def run_processes(
    function: Callable[..., Any],
    jobs: Sequence[tuple[Any, ...]],
    *,
    names: Sequence[str],
    workers: int,
    tick: Callable[[], None] = lambda: None,
    listen: Callable[[int, Any], None] = lambda number, message: None,
) -> list[Any]:
    """Call ``function(*job, tell)`` for every job, each in a process of its own.

    Args:
        function: importable; its last argument sends a message to ``listen``.
        jobs: arguments that can be pickled.
        names: of the jobs, for errors.
        workers: processes at a time, at least 1.
        tick: called about once a second.
        listen: called with a job's number and its message.

    Returns:
        What each call returned, in the order of the jobs.

    Raises:
        UserError: the first error of a job, with its name; the others are asked to stop.
        Interrupted: SIGINT or SIGTERM came; likewise.
    """
    context = multiprocessing.get_context("spawn")  # torch does not survive a fork
    waiting = list(range(len(jobs)))
    running: dict[int, tuple[SpawnProcess, Connection]] = {}
    results: list[Any] = [None] * len(jobs)
    with StopRequests() as stop:
        try:
            while waiting or running:
                while waiting and len(running) < workers:
                    number = waiting.pop(0)
                    ours, theirs = context.Pipe(duplex=False)
                    process = context.Process(target=_body, args=(theirs, function, jobs[number]))
                    process.start()
                    theirs.close()
                    running[number] = process, ours
                connection.wait([pipe for _, pipe in running.values()], timeout=1)
                for number, (process, pipe) in list(running.items()):
                    if _drain(pipe, number, results, listen, process, names[number]):
                        del running[number]
                tick()
                if stop.requested is not None:
                    left = len(waiting) + len(running)
                    raise Interrupted(
                        f"stopped with {left} of {len(jobs)} jobs left; the same command goes on",
                        stop.requested,
                    )
        finally:
            for process, _ in running.values():
                process.terminate()  # a training writes its checkpoint, then ends
            for process, _ in running.values():
                process.join()
    return results


def _drain(
    pipe: Connection,
    number: int,
    results: list[Any],
    listen: Callable[[int, Any], None],
    process: SpawnProcess,
    name: str,
) -> bool:
    """Read what a process has sent; True once it has ended well."""
    while pipe.poll():
        try:
            kind, content = pickle.loads(pipe.recv_bytes())
        except EOFError:  # it was killed, or failed with a traceback of its own
            process.join()
            raise UserError(f"{name}: its process ended with code {process.exitcode}") from None
        if kind == "tell":
            listen(number, content)
        elif kind == "error":
            process.join()
            raise UserError(f"{name}: {content}")
        else:
            results[number] = content
            process.join()
            return True
    return False


def _body(pipe: Connection, function: Callable[..., Any], job: tuple[Any, ...]) -> None:
    """Body of a process."""
    if hasattr(os, "setsid"):
        os.setsid()  # Ctrl-C reaches the parent alone, which then asks us to stop
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        result = function(*job, lambda message: _send(pipe, "tell", message))
    except UserError as error:
        _send(pipe, "error", str(error))
        sys.exit(2)
    except Interrupted as error:
        sys.exit(128 + error.signum)
    _send(pipe, "result", result)


def _send(pipe: Connection, kind: str, content: Any) -> None:
    # Plain pickle copies tensors; the pipe's own would share memory with a process that ends.
    pipe.send_bytes(pickle.dumps((kind, content)))


def _end_with_parent() -> None:
    """Stop, checkpoint written, when the parent is gone however it went."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os.kill(os.getpid(), signal.SIGTERM)
