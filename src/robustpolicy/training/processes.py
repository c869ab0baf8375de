"""Several calls at a time, all of which are needed: the first error ends them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from robustpolicy.errors import UserError
from robustpolicy.training.pool import Pool
from robustpolicy.training.signals import Interrupted, StopRequests


def run_processes(
    function: Callable[..., Any],
    jobs: Sequence[tuple[Any, ...]],
    *,
    names: Sequence[str],
    workers: int,
    listen: Callable[[int, Any], None] = lambda number, message: None,
) -> list[Any]:
    """Call ``function(*job)`` for every job, several processes at a time.

    Args:
        function: importable; it can send messages by :func:`robustpolicy.training.pool.tell`.
        jobs: arguments that can be pickled.
        names: of the jobs, for errors.
        workers: processes at a time, at least 1.
        listen: called with a job's number and its message.

    Returns:
        What each call returned, in the order of the jobs.

    Raises:
        UserError: the first error of a job, with its name; the others are asked to stop.
        Interrupted: SIGINT or SIGTERM came; likewise.
    """
    results: list[Any] = [None] * len(jobs)
    begun = ended = 0
    pool = Pool(workers)
    with StopRequests() as stop:
        try:
            while ended < len(jobs):
                while begun < len(jobs) and pool.free:
                    pool.call(begun, function, jobs[begun])
                    begun += 1
                for event in pool.wait(timeout=1):
                    if event.kind == "told":
                        listen(event.key, event.content)
                    elif event.kind == "returned":
                        results[event.key] = event.content
                        ended += 1
                    else:
                        raise UserError(f"{names[event.key]}: {event.error}")
                if stop.requested is not None:
                    raise Interrupted(
                        f"stopped with {len(jobs) - ended} of {len(jobs)} jobs left; the same "
                        "command goes on",
                        stop.requested,
                    )
        finally:
            pool.stop()
    return results
