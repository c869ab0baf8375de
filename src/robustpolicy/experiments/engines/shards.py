"""Shares of a sweep for machines that know nothing of each other, as in a Slurm array."""

from __future__ import annotations

import re
from collections.abc import Sequence

from robustpolicy.errors import UserError
from robustpolicy.experiments.engines.job import Job
from robustpolicy.experiments.engines.order import check


def parse_shard(text: str) -> tuple[int, int]:
    """Read a share such as ``"2/8"``, the second of eight.

    Returns:
        Its number, from 1, and how many there are.

    Raises:
        UserError: anything else.

    Example:
        >>> parse_shard("2/8")
        (2, 8)
    """
    match = re.fullmatch(r"([0-9]{1,9})/([0-9]{1,9})", text.strip())
    if match is None:
        raise UserError(f"--shard is {text!r}; give a share such as 2/8, the second of eight")
    number, count = int(match[1]), int(match[2])
    if not 1 <= number <= count:
        raise UserError(
            f"--shard is {text!r}; shares of {count} go from 1/{count} to {count}/{count}"
            if count
            else f"--shard is {text!r}; there must be at least one share, such as 1/1"
        )
    return number, count


def shard(jobs: Sequence[Job], number: int, count: int) -> list[Job]:
    """Jobs of one share, in their order. All shares together are all jobs, each once.

    Jobs that depend on each other, by any way, fall into one share. Groups go one by one to the
    share that has fewest jobs so far, large ones first, so shares are about equally long.

    Args:
        jobs: the whole sweep, the same for every share.
        number: of this share, from 1.
        count: of all shares.

    Raises:
        UserError: jobs that no engine would take.
    """
    check(jobs)
    shares: list[set[str]] = [set() for _ in range(count)]
    for group in sorted(_groups(jobs), key=len, reverse=True):
        min(shares, key=len).update(group)
    return [job for job in jobs if job.name in shares[number - 1]]


def _groups(jobs: Sequence[Job]) -> list[list[str]]:
    """Names of jobs that depend on each other, in the order of their first ones."""
    above = {job.name: job.name for job in jobs}

    def root(name: str) -> str:
        while above[name] != name:
            above[name] = name = above[above[name]]
        return name

    for job in jobs:
        for need in job.needs:
            above[root(need)] = root(job.name)
    groups: dict[str, list[str]] = {}
    for job in jobs:
        groups.setdefault(root(job.name), []).append(job.name)
    return list(groups.values())
