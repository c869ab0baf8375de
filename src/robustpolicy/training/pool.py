"""A pool of worker processes: started when needed, used again, replaced when they die."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import pickle
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing import connection
from multiprocessing.connection import Connection
from typing import Any, Literal

from robustpolicy.errors import UserError
from robustpolicy.memory import keep_freed_memory
from robustpolicy.training.signals import Interrupted

#: Seconds in which a process that was asked to stop must have written its checkpoint.
GRACE = 60.0


@dataclass(frozen=True)
class Event:
    """What a call has sent.

    Attributes:
        key: of the call.
        kind: ``"told"`` while it runs; the others are its end.
        content: the message, the value, the error in one line, or the exit code of its process.
    """

    key: int
    kind: Literal["told", "returned", "raised", "died"]
    content: Any

    @property
    def error(self) -> str:
        """What went wrong, in one line."""
        if self.kind != "died":
            return str(self.content)
        if self.content < 0:
            return f"its process was killed by signal {-self.content}"
        return f"its process ended with code {self.content}"


class Pool:
    """Processes that call functions, one at a time each.

    Starting a process and importing torch takes seconds, so a process is kept for the next call.
    Ctrl-C reaches the parent alone, and the processes stop when the parent is gone.

    Args:
        workers: processes at a time, at least 1.
    """

    def __init__(self, workers: int) -> None:
        self._size = workers
        self._workers: list[_Worker] = []

    @property
    def free(self) -> int:
        """How many more calls can be taken."""
        return self._size - sum(worker.key is not None for worker in self._workers)

    def call(self, key: int, function: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
        """Call a function in a free process; :meth:`wait` gives what comes of it.

        Args:
            key: one that no running call has.
            function: importable.
            arguments: that can be pickled.
        """
        self._workers = [worker for worker in self._workers if worker.alive]
        idle = next((worker for worker in self._workers if worker.key is None), None)
        if idle is None:
            idle = _Worker()
            self._workers.append(idle)
        idle.give(key, pickle.dumps((function, arguments)))

    def wait(self, timeout: float) -> list[Event]:
        """Events, as soon as there are any; none after ``timeout`` seconds."""
        busy = [worker for worker in self._workers if worker.key is not None]
        connection.wait([worker.pipe for worker in busy], timeout=timeout)
        events = [event for worker in busy for event in worker.events()]
        gone = {event.key for event in events if event.kind == "died"}
        self._workers = [
            worker for worker in self._workers if worker.key is None or worker.key not in gone
        ]
        return events

    def stop(self) -> None:
        """End all processes: those at work are asked to, those that do not are killed."""
        for worker in self._workers:
            worker.process.terminate()  # a training writes its checkpoint, then ends
            worker.pipe.close()  # a process with nothing more to do ends
        deadline = time.monotonic() + GRACE
        for worker in self._workers:
            worker.process.join(max(0.0, deadline - time.monotonic()))
            if worker.process.is_alive():
                worker.process.kill()
                worker.process.join()
        self._workers = []


class _Worker:
    """A process as its parent sees it."""

    def __init__(self) -> None:
        context = multiprocessing.get_context("spawn")  # torch does not survive a fork
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=_serve, args=(theirs,))
        self.process.start()
        theirs.close()
        self.key: int | None = None
        self._unsent: bytes | None = None
        self._ready = False

    @property
    def alive(self) -> bool:
        return self.process.is_alive()

    def give(self, key: int, call: bytes) -> None:
        self.key, self._unsent = key, call
        self._send()

    def _send(self) -> None:
        """Send the call to a process that listens: a long one would wait until it does."""
        if self._ready and self._unsent is not None:
            with contextlib.suppress(OSError):  # it has died, which the next look at it shows
                self.pipe.send_bytes(self._unsent)
            self._unsent = None

    def events(self) -> list[Event]:
        """What its call has sent, without waiting."""
        events: list[Event] = []
        key = self.key
        assert key is not None
        try:
            while self.key is not None and self.pipe.poll():
                kind, content = pickle.loads(self.pipe.recv_bytes())
                if kind == "ready":
                    self._ready = True
                    self._send()
                    continue
                events.append(Event(key, kind, content))
                if kind != "told":
                    self.key = None
        except (EOFError, OSError):  # it was killed, perhaps while it sent
            self.process.join()
            events.append(Event(key, "died", self.process.exitcode))
        return events


_pipe: Connection | None = None  # to the parent, in a process of a pool


def tell(message: Any) -> None:
    """Send a message from within a call to the one who waits for it."""
    assert _pipe is not None, "not in a process of a pool"
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # nobody listens any more
        _pipe.send_bytes(_dumps(("told", message)))


def _serve(pipe: Connection) -> None:
    """Body of a process."""
    global _pipe
    _pipe = pipe
    if hasattr(os, "setsid"):
        os.setsid()  # Ctrl-C reaches the parent alone, which then asks us to stop
    threading.Thread(target=_end_with_parent, daemon=True).start()
    keep_freed_memory()
    with contextlib.suppress(EOFError, BrokenPipeError, ConnectionResetError):
        pipe.send_bytes(_dumps(("ready", None)))
        while True:
            pipe.send_bytes(_called(pipe.recv_bytes()))


def _called(call: bytes) -> bytes:
    try:
        function, arguments = pickle.loads(call)
        return _dumps(("returned", function(*arguments)))
    except Interrupted as error:
        sys.exit(128 + error.signum)
    except Exception as error:
        if not isinstance(error, UserError):
            traceback.print_exc()
        return _dumps(("raised", one_line(error)))


def one_line(error: BaseException) -> str:
    """The last line of a traceback; for bad input, what was said of it.

    Example:
        >>> one_line(ZeroDivisionError("division by zero"))
        'ZeroDivisionError: division by zero'
    """
    if isinstance(error, UserError | Interrupted):
        return str(error)
    lines = traceback.format_exception_only(error)
    # A message of several lines says the thing in its first one.
    return lines[-1].strip().splitlines()[0]


def _dumps(message: tuple[str, Any]) -> bytes:
    # Plain pickle copies tensors; the pipe's own would share memory with a process that ends.
    return pickle.dumps(message)


def _end_with_parent() -> None:
    """Stop, checkpoint written, when the parent is gone however it went."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os.kill(os.getpid(), signal.SIGTERM)
