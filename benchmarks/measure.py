"""Timing that survives a noisy machine: the candidates take turns, and ratios are taken pair by
pair within a round.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
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
