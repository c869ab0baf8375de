"""Timing that survives a noisy machine: the candidates take turns, and ratios are taken pair by
pair within a round.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

import torch


@dataclass(frozen=True)
class Timing:
    """Seconds a call of one candidate, one value a round."""

    seconds: tuple[float, ...]

    @property
    def median(self) -> float:
        """Median over rounds."""
        return statistics.median(self.seconds)

    def ratio(self, base: Timing) -> float:
        """Median over rounds of this candidate's time over the base's."""
        return statistics.median(a / b for a, b in zip(self.seconds, base.seconds, strict=True))


def take_turns(
    candidates: dict[str, Callable[[], object]], rounds: int, calls: int
) -> dict[str, Timing]:
    """Time every candidate ``calls`` times a round, after one round that is not counted."""
    seconds: dict[str, list[float]] = {name: [] for name in candidates}
    for number in range(rounds + 1):
        for name, call in candidates.items():
            begun = time.perf_counter()
            for _ in range(calls):
                call()
            if number:
                seconds[name].append((time.perf_counter() - begun) / calls)
    return {name: Timing(tuple(values)) for name, values in seconds.items()}


def take_turns_apart(
    builders: dict[str, Callable[[], Callable[[], object]]],
    rounds: int,
    calls: int,
    starts: int = 1,
) -> dict[str, Timing]:
    """As :func:`take_turns`, each candidate in a process of its own, one at work at a time.

    How a process lays out its memory moves its times by some percent, and what one candidate has
    freed another would find: so they are apart, and started afresh ``starts`` times.

    Args:
        builders: name -> what makes the call to be timed, in its process; importable.
        rounds: of each start.
        calls: a round.
        starts: of all processes.
    """
    seconds: dict[str, list[float]] = {name: [] for name in builders}
    for _ in range(starts):
        with _processes(builders) as pipes:
            for number in range(rounds + 1):
                for name, pipe in pipes.items():
                    pipe.send(calls)
                    taken = pipe.recv()
                    if number:
                        seconds[name].append(taken / calls)
    return {name: Timing(tuple(values)) for name, values in seconds.items()}


@contextmanager
def _processes(
    builders: dict[str, Callable[[], Callable[[], object]]],
) -> Iterator[dict[str, Connection]]:
    context = multiprocessing.get_context("spawn")
    pipes, processes = {}, []
    for name, build in builders.items():
        pipes[name], theirs = context.Pipe()
        processes.append(context.Process(target=_serve, args=(theirs, build), daemon=True))
        processes[-1].start()
        theirs.close()
    try:
        yield pipes
    finally:
        for pipe in pipes.values():
            pipe.close()
        for process in processes:
            process.join()


def _serve(pipe: Connection, build: Callable[[], Callable[[], object]]) -> None:
    call = build()
    with suppress(EOFError):
        while calls := pipe.recv():
            begun = time.perf_counter()
            for _ in range(calls):
                call()
            pipe.send(time.perf_counter() - begun)


def machine() -> str:
    """Hardware and versions, for the head of every output."""
    from robustpolicy.training.environment import describe_environment

    here = describe_environment(torch.device("cpu"))
    return (
        f"{here['cpu']}, {here['cores']} cores, {torch.get_num_threads()} thread(s), load "
        f"{os.getloadavg()[0]:.1f}; Python {platform.python_version()}, torch {torch.__version__}"
    )


def write(name: str, rows: list[dict[str, object]]) -> None:
    """With ``--write`` on the command line, keep the ratios in results/benchmarks."""
    if "--write" in sys.argv:
        folder = Path(__file__).parent.parent / "results" / "benchmarks"
        folder.mkdir(parents=True, exist_ok=True)
        text = json.dumps({"machine": machine(), "rows": rows}, indent=1)
        (folder / f"{name}.json").write_text(text + "\n")


def verdict(value: float, bound: float, *, at_most: bool) -> str:
    """The bound and whether it holds."""
    sign = "<=" if at_most else ">="
    holds = value <= bound if at_most else value >= bound
    return f"{sign} {bound:g} {'holds' if holds else 'MISSED'}"
