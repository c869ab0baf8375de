"""Several processes of this machine, one thread each."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence

from robustpolicy.errors import UserError
from robustpolicy.experiments.engines.attempt import Attempt, attempt
from robustpolicy.experiments.engines.job import Job, Outcome
from robustpolicy.experiments.engines.schedule import run_jobs
from robustpolicy.training.pool import Pool


class LocalEngine:
    """Runs jobs in processes of this machine; see :class:`robustpolicy.experiments.engines.Engine`.

    A process is used for one job after another. One that dies is replaced.

    Args:
        workers: processes at a time; as many as cores if None.

    Raises:
        UserError: fewer than one.
    """

    def __init__(self, workers: int | None = None) -> None:
        self.workers = check_workers(workers) or cores()

    def run(
        self,
        jobs: Sequence[Job],
        *,
        tick: Callable[[], None] = lambda: None,
        on_outcome: Callable[[Outcome], None] = lambda outcome: None,
    ) -> list[Outcome]:
        """Run jobs."""
        return run_jobs(jobs, lambda: _Processes(self.workers), tick, on_outcome)


def check_workers(workers: int | None) -> int | None:
    """Check a number of workers.

    Raises:
        UserError: fewer than one.
    """
    if workers is not None and workers < 1:
        raise UserError(f"{workers} workers given; give at least 1")
    return workers


def cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


class _Processes:
    """A pool as a backend."""

    def __init__(self, workers: int) -> None:
        self._pool = Pool(workers)
        self._running: dict[int, Job] = {}
        self._count = 0

    @property
    def free(self) -> int:
        return self._pool.free

    def start(self, job: Job) -> None:
        self._count += 1
        self._running[self._count] = job
        self._pool.call(self._count, attempt, (job.function, job.arguments))

    def wait(self, timeout: float) -> list[tuple[Job, Attempt]]:
        return [
            (
                self._running.pop(event.key),
                event.content if event.kind == "returned" else Attempt(error=event.error),
            )
            for event in self._pool.wait(timeout)
            if event.kind != "told"
        ]

    def stop(self) -> None:
        self._pool.stop()
