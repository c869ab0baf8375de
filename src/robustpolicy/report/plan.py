"""What a sweep is about to do: cells, operations, time."""

from __future__ import annotations

import os
from collections.abc import Sequence

from robustpolicy.experiments.cells import Cell, merged, shared_prefixes
from robustpolicy.experiments.costs import Clock, Pace, measure_pace, sweep_flops
from robustpolicy.experiments.results import Results


def print_plan(
    cells: Sequence[Cell],
    todo: Sequence[Cell],
    results: Results,
    *,
    share: bool,
    workers: int | None,
    device: str,
    measure: bool,
) -> None:
    """Print how much there is to do.

    Args:
        cells: of the whole sweep.
        todo: those that are not done.
        results: finished cells, which tell how long others take.
        share: whether common epochs are trained once.
        workers: processes; as many as cores if None.
        device: where it will run.
        measure: time a few steps where no finished cell says how long they take.
    """
    count = len(merged(cells))
    marks = sorted({cell.reduced for cell in cells if cell.reduced})
    print(f"{count} cells, {count - len(todo)} done already, {len(todo)} to do")
    for mark in marks:
        print(f"reduced: {mark}")
    if not todo:
        return
    flops = f"at most {_operations(sweep_flops(todo, share))}"
    clock = Clock(results)
    unknown = clock.unknown(todo)
    if unknown and measure:
        paces: dict[tuple[str, str], Pace] = {
            (recipe.dataset, recipe.model): measure_pace(recipe, device) for recipe in unknown
        }
        clock = Clock(results, paces)
    seconds = clock.seconds(todo, share)
    processes = min(workers or os.cpu_count() or 1, len(todo))
    print(f"{flops}; {_time(seconds, processes)}")
    if share and (begun := [prefix for prefix in _prefixes(todo) if len(prefix) > 1]):
        print(f"{sum(map(len, begun))} cells share {len(begun)} first stages")


def _prefixes(todo: Sequence[Cell]) -> list[tuple[str, ...]]:
    output = todo[0].run.parent.parent
    return [prefix.cells for prefix in shared_prefixes(todo, output)]


def _operations(flops: float) -> str:
    for unit, size in (("PFLOP", 1e15), ("TFLOP", 1e12), ("GFLOP", 1e9)):
        if flops >= size:
            return f"{flops / size:.3g} {unit}"
    return f"{flops / 1e6:.3g} MFLOP"


def _time(seconds: float | None, processes: int) -> str:
    if seconds is None:
        return "how long that takes here is known once a cell is done"
    share = seconds / processes
    text = f"{share / 3600:.1f} hours" if share >= 5400 else f"{share / 60:.0f} minutes"
    return f"about {text if share >= 60 else 'a minute'} with {processes} processes here"
