"""The order in which jobs can run: after those that they need."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from graphlib import CycleError, TopologicalSorter

from robustpolicy.errors import UserError
from robustpolicy.experiments.engines.job import Job


def check(jobs: Sequence[Job]) -> None:
    """Check that every job can run at some time.

    Raises:
        UserError: two jobs of one name, a need that is no job, or jobs that need each other.
    """
    names = Counter(job.name for job in jobs)
    for name, count in names.items():
        if count > 1:
            raise UserError(f"{count} jobs are named {name!r}; give each a name of its own")
    for job in jobs:
        for need in job.needs:
            if need not in names:
                raise UserError(
                    f"{job.name} needs {need!r}, which is no job; add it, or drop the need"
                )
    try:
        TopologicalSorter({job.name: job.needs for job in jobs}).prepare()
    except CycleError as error:
        circle = " needs ".join(reversed(error.args[1]))
        raise UserError(f"{circle}; such jobs can never begin, drop one of the needs") from None


def needed_first(jobs: Sequence[Job]) -> list[Job]:
    """Jobs with those first that most others wait for; else in their order."""
    waiting = Counter(need for job in jobs for need in job.needs)
    return sorted(jobs, key=lambda job: -waiting[job.name])
