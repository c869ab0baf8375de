"""What an engine is given, and what it gives back."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol


@dataclass(frozen=True)
class Job:
    """A call that can be made in another process, and made again after a failure.

    It goes on from what an earlier attempt left, or begins anew: a process can die at any moment.

    Attributes:
        name: no other job's.
        function: importable where the job runs.
        arguments: that can be pickled.
        needs: names of jobs that must have succeeded before, such as the training of a shared
            prefix.
        cpus: cores that a Ray cluster sets aside for it; it has one thread in any case.
        gpus: likewise; may be a fraction.
        retries: how often it is tried again after an error or the death of its process.
        result: a file or a folder that it leaves. Where it ran on a machine that shares no file
            system with the driver's or with a job that needs it, the engine brings it there.
    """

    name: str
    function: Callable[..., Any]
    arguments: tuple[Any, ...] = ()
    needs: tuple[str, ...] = ()
    cpus: float = 1
    gpus: float = 0
    retries: int = 1
    result: Path | None = None


@dataclass(frozen=True)
class Outcome:
    """What became of a job.

    Attributes:
        name: of the job.
        value: what the function returned; None if it failed.
        error: why it failed, in one line; None if it did not.
        attempts: how often it was begun; 0 if a job that it needs failed.
        seconds: that its last attempt took where it ran; 0 if its process died.
        traceback: of its last error, if it was one of Python's.
    """

    name: str
    value: Any = None
    error: str | None = None
    attempts: int = 0
    seconds: float = 0.0
    traceback: str = ""


class Engine(Protocol):
    """Runs jobs."""

    def run(
        self,
        jobs: Sequence[Job],
        *,
        tick: Callable[[], None] = lambda: None,
        on_outcome: Callable[[Outcome], None] = lambda outcome: None,
    ) -> list[Outcome]:
        """Run jobs, several at a time, those that others need first.

        A job that fails is tried again, then given up; the others go on.

        Args:
            jobs: in any order.
            tick: called about once a second.
            on_outcome: called with each outcome as soon as it is there.

        Returns:
            Outcomes in the order of the jobs.

        Raises:
            UserError: two jobs of one name, a need that is no job or that needs itself, or an
                engine that cannot be started.
            Interrupted: SIGINT or SIGTERM came. The jobs were asked to stop, and have.
        """
        ...
