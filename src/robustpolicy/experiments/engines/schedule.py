"""The loop behind every engine: needs, retries, interruption. Where a job runs is a backend's."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from robustpolicy.experiments.engines.attempt import Attempt
from robustpolicy.experiments.engines.job import Job, Outcome
from robustpolicy.experiments.engines.order import check, needed_first
from robustpolicy.training.signals import Interrupted, StopRequests


class Backend(Protocol):
    """Makes single attempts at jobs."""

    @property
    def free(self) -> int:
        """How many more jobs can be started now."""
        ...

    def start(self, job: Job) -> None:
        """Begin an attempt at a job."""
        ...

    def wait(self, timeout: float) -> list[tuple[Job, Attempt]]:
        """Attempts that have ended, as soon as there are any; none after ``timeout`` seconds."""
        ...

    def stop(self) -> None:
        """Ask all jobs to stop and wait until they have; end what was started."""
        ...


def run_jobs(
    jobs: Sequence[Job],
    open_backend: Callable[[], Backend],
    tick: Callable[[], None],
    on_outcome: Callable[[Outcome], None],
) -> list[Outcome]:
    """Run jobs on a backend; see :class:`robustpolicy.experiments.engines.job.Engine`."""
    check(jobs)
    if not jobs:
        return []
    waiting = needed_first(jobs)
    attempts = {job.name: 0 for job in jobs}
    outcomes: dict[str, Outcome] = {}

    def settle(outcome: Outcome) -> None:
        outcomes[outcome.name] = outcome
        on_outcome(outcome)

    with StopRequests() as stop:
        backend = open_backend()
        try:
            while len(outcomes) < len(jobs):
                if stop.requested is not None:
                    left = len(jobs) - len(outcomes)
                    raise Interrupted(
                        f"stopped with {left} of {len(jobs)} jobs left; the same command goes on",
                        stop.requested,
                    )
                begin = [job for job in waiting if _may_begin(job, outcomes)]
                for job in begin[: backend.free]:
                    waiting.remove(job)
                    attempts[job.name] += 1
                    backend.start(job)
                for job, ended in backend.wait(timeout=1):
                    if ended.error is not None and attempts[job.name] <= job.retries:
                        waiting.insert(0, job)
                    else:
                        settle(_outcome(job, ended, attempts[job.name]))
                        _give_up(waiting, outcomes, settle)
                tick()
        finally:
            backend.stop()
    return [outcomes[job.name] for job in jobs]


def _may_begin(job: Job, outcomes: dict[str, Outcome]) -> bool:
    return all(need in outcomes and outcomes[need].error is None for need in job.needs)


def _outcome(job: Job, ended: Attempt, attempts: int) -> Outcome:
    return Outcome(
        job.name, ended.value, ended.error, attempts, round(ended.seconds, 3), ended.traceback
    )


def _give_up(
    waiting: list[Job], outcomes: dict[str, Outcome], settle: Callable[[Outcome], None]
) -> None:
    """Settle the jobs that need one that failed, and those that need these."""
    failed = {name for name, outcome in outcomes.items() if outcome.error is not None}
    while lost := [job for job in waiting if failed & set(job.needs)]:
        for job in lost:
            waiting.remove(job)
            need = next(need for need in job.needs if need in failed)
            settle(Outcome(job.name, error=f"needs {need}, which failed"))
            failed.add(job.name)
