"""What happens inside a Ray task."""

from __future__ import annotations

import functools
import hashlib
import importlib.metadata
import os
import platform
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import robustpolicy
from robustpolicy.errors import UserError
from robustpolicy.experiments.engines.attempt import Attempt, attempt
from robustpolicy.experiments.engines.files import Packed, Stamp, pack, stamp, unpack
from robustpolicy.training.pool import one_line


@dataclass(frozen=True)
class Driver:
    """What a task must know of the process that sent it.

    Attributes:
        node: its node in the cluster.
        folder: its working folder, in which the jobs run.
        software: as :func:`software` gives it.
        settings: its ``ROBUSTPOLICY_*`` variables; those of a node go before them.
    """

    node: str
    folder: str
    software: str
    settings: dict[str, str]


@dataclass(frozen=True)
class Need:
    """A result that a job needs: where, its stamp, and its content if it has to be brought."""

    name: str
    path: Path
    stamp: Stamp
    content: Any = None  # a reference to Packed


@dataclass(frozen=True)
class Answer:
    """What came of a task.

    Attributes:
        attempt: at the job; None if results that it needs are not to be seen there.
        missing: names of the jobs that left them.
        stamp: of the job's result.
    """

    attempt: Attempt | None
    missing: tuple[str, ...] = ()
    stamp: Stamp = ()


def run_task(
    call: bytes, result: Path | None, needs: list[Need], driver: Driver
) -> tuple[Answer, Packed | None]:
    """Make an attempt at a job on this node.

    Args:
        call: the function and its arguments, pickled.
        result: what it leaves.
        needs: results of other jobs.
        driver: who asks.

    Returns:
        What came of it, and the result if the driver may not see it.
    """
    import ray

    try:
        _settle_in(driver)
        missing = [need for need in needs if stamp(need.path) != need.stamp]
        absent = tuple(need.name for need in missing if need.content is None)
        if absent:
            return Answer(None, absent), None
        for need in missing:
            unpack(ray.get(need.content), need.path)
        function, arguments = ray.cloudpickle.loads(call)
    except Exception as error:
        return Answer(Attempt(error=one_line(error))), None
    made = attempt(function, arguments)
    if made.error is not None or result is None:
        return Answer(made), None
    if ray.get_runtime_context().get_node_id() == driver.node:
        return Answer(made, stamp=stamp(result)), None
    packed = pack(result)
    return Answer(made, stamp=packed.stamp), packed


def _settle_in(driver: Driver) -> None:
    """Make the process like the driver's.

    Raises:
        UserError: it has other software, or its folder cannot be made here.
    """
    here = software()
    if here != driver.software:
        raise UserError(
            f"node {platform.node()} has {here}, the driver {driver.software}; install the same "
            "on every node, then start Ray there again"
        )
    for name, value in driver.settings.items():
        os.environ.setdefault(name, value)
    try:
        os.makedirs(driver.folder, exist_ok=True)
        os.chdir(driver.folder)
    except OSError as error:
        raise UserError(
            f"node {platform.node()} cannot enter {driver.folder}: {error.strerror}; start the "
            "sweep in a folder that every node has"
        ) from None


@functools.cache
def software() -> str:
    """What the numbers depend on: this package, its very source, and torch."""
    root = Path(robustpolicy.__file__).parent
    source = hashlib.sha256()
    for path in sorted(root.rglob("*.py")):
        source.update(path.relative_to(root).as_posix().encode() + b"\0" + path.read_bytes())
    return (
        f"robustpolicy {robustpolicy.__version__} (source {source.hexdigest()[:8]}), torch "
        f"{importlib.metadata.version('torch')}"
    )
