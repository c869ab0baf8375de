"""SIGINT and SIGTERM as a request to stop at the next step, with the checkpoint written."""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType


class Interrupted(Exception):
    """A run was asked to stop and has written its checkpoint.

    Attributes:
        signum: the signal that asked; the exit code is 128 + signum.
    """

    def __init__(self, message: str, signum: int) -> None:
        super().__init__(message, signum)  # both, so that it survives pickling
        self.signum = signum

    def __str__(self) -> str:
        """The message alone."""
        return str(self.args[0])


class StopRequests:
    """While entered, turns the first SIGINT or SIGTERM into ``requested``; a second one kills.

    Only the main thread may set signal handlers; elsewhere this does nothing.
    """

    def __init__(self) -> None:
        self.requested: int | None = None
        self._before: dict[int, object] = {}

    def __enter__(self) -> StopRequests:
        """Install the handlers."""
        if threading.current_thread() is threading.main_thread():
            for signum in (signal.SIGINT, signal.SIGTERM):
                self._before[signum] = signal.signal(signum, self._note)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Put the former handlers back."""
        self._restore()

    def _note(self, signum: int, frame: FrameType | None) -> None:
        self.requested = signum
        self._restore()

    def _restore(self) -> None:
        for signum, handler in self._before.items():
            signal.signal(signum, handler)  # type: ignore[arg-type]
        self._before = {}
