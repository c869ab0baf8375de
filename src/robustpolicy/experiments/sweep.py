"""Running the cells of an experiment on an engine; what is done is skipped, the rest resumes."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from filelock import FileLock, Timeout

from robustpolicy.experiments.cells import (
    Cell,
    lock_of,
    merged,
    prefix_groups,
    shared_prefixes,
    surrogates,
)
from robustpolicy.experiments.engines import Engine, Job, Outcome, shard
from robustpolicy.experiments.results import Results

#: Seconds between two looks at cells that another sweep has.
PATIENCE = 3.0


@dataclass
class Report:
    """What became of a sweep.

    Attributes:
        failed: name of a job -> why, in one line.
        warnings: what the user should know.
    """

    failed: dict[str, str] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)


def to_do(cells: Sequence[Cell], results: Results) -> list[Cell]:
    """The cells that are not done, each with the measures that are missing."""
    return [
        dataclasses.replace(cell, measures=results.missing(cell.recipe, cell.measures))
        for cell in merged(cells)
        if not cell.is_done(results)
    ]


def run_cells(
    cells: Sequence[Cell],
    *,
    engine: Engine,
    output: Path,
    results: Results | None = None,
    share: bool = True,
    data_dirs: Sequence[Path] = (),
    device: str = "auto",
    tick: Callable[[], None] = lambda: None,
    on_done: Callable[[str], None] = lambda name: None,
) -> Report:
    """Run the cells that are not done. A cell that fails is reported, the others go on.

    Cells that another sweep over the same folder has are looked at again until they are done.

    Args:
        cells: what to run; those with a result of their recipe and measures are skipped.
        engine: runs the jobs.
        output: folder of run folders and shared prefixes.
        results: what is known already; the cells' own results if None.
        share: train the epochs that cells have in common once.
        data_dirs: folders to look for the data in first.
        device: ``"auto"``, ``"cpu"``, ``"cuda"`` or ``"mps"``.
        tick: called about once a second, to show progress (see :func:`progress_of`).
        on_done: called with the name of each cell, prefix and surrogate that is done.

    Raises:
        Interrupted: SIGINT or SIGTERM came; the same call goes on from the checkpoints.
    """
    known = results or Results(*{cell.result.parent.parent for cell in cells})
    todo = to_do(cells, known)
    report = Report()

    def note(outcome: Outcome) -> None:
        if outcome.error is None and not outcome.value.busy:
            on_done(outcome.name)

    while todo:
        jobs = plan_jobs(todo, output, share=share, data_dirs=data_dirs, device=device)
        outcomes = engine.run(jobs, tick=tick, on_outcome=note)
        busy = set()
        for outcome in outcomes:
            if outcome.error is not None:
                report.failed[outcome.name] = outcome.error
            elif outcome.value.busy:
                busy.add(outcome.name)
            else:
                report.warnings += outcome.value.warnings
        todo = [cell for cell in todo if cell.name in busy]
        if todo:
            own = {cell.name: cell.run for cell in todo}
            runs = [own.get(job.name, job.result) for job in jobs if job.name in busy]
            _wait([run for run in runs if run is not None])
    return report


def _wait(runs: Sequence[Path]) -> None:
    """Wait until somebody gives one of these folders back."""
    held = [run for run in runs if not _is_free(run)]
    while held and not any(map(_is_free, held)):
        time.sleep(PATIENCE)


def _is_free(run: Path) -> bool:
    try:
        with FileLock(lock_of(run), timeout=0):
            return True
    except Timeout:
        return False


def plan_jobs(
    todo: Sequence[Cell],
    output: Path,
    *,
    share: bool = True,
    data_dirs: Sequence[Path] = (),
    device: str = "auto",
) -> list[Job]:
    """Jobs of the cells that are to be done, and of what several of them need."""
    from robustpolicy.experiments import work  # imports torch, which a plan does without

    where = work.Where(tuple(data_dirs), device)
    gpus = 1 if device.startswith("cuda") else 0
    jobs: dict[str, Job] = {}
    needs: dict[str, list[str]] = {cell.name: [] for cell in todo}
    prefixes: dict[str, Path] = {}
    for prefix in shared_prefixes(todo, output) if share else ():
        name = f"prefix/{prefix.run.name}"
        arguments = (prefix.recipe, prefix.run, where)
        jobs[name] = Job(name, work.train_prefix, arguments, gpus=gpus, result=prefix.run)
        for cell in prefix.cells:
            needs[cell].append(name)
            prefixes[cell] = prefix.run
    folders: dict[str, Path] = {}
    for cell, (recipe, run) in surrogates(todo, output).items():
        name = f"surrogate/{run.name}"
        folders[cell] = run
        needs[cell].append(name)
        jobs[name] = Job(name, work.train_surrogate, (recipe, run, where), gpus=gpus, result=run)
    for one in todo:
        arguments_ = (one, prefixes.get(one.name), folders.get(one.name), where)
        jobs[one.name] = Job(
            one.name,
            work.run_cell,
            arguments_,
            needs=tuple(needs[one.name]),
            gpus=gpus,
            result=one.result,
        )
    return list(jobs.values())


def shard_cells(cells: Sequence[Cell], number: int, count: int) -> list[Cell]:
    """The cells of one share of a sweep, whatever is done already.

    Cells that share a prefix fall into one share; surrogates are trained by each that needs one.

    Args:
        cells: the whole sweep, the same for every share.
        number: of this share, from 1.
        count: of all shares.
    """
    each = merged(cells)
    groups = prefix_groups(each)
    prefixes = [Job(f"prefix/{recipe.id}", shard_cells) for recipe in groups]
    needs = {cell.name: (f"prefix/{recipe.id}",) for recipe, own in groups.items() for cell in own}
    jobs = [Job(cell.name, shard_cells, needs=needs.get(cell.name, ())) for cell in each]
    chosen = {job.name for job in shard([*prefixes, *jobs], number, count)}
    return [cell for cell in each if cell.name in chosen]


def progress_of(cell: Cell) -> tuple[str, int]:
    """What a cell that is not done is doing, and its complete epochs, read from its run folder.

    Works across processes and machines, as long as they share the folder.
    """
    try:
        epochs = (cell.run / "history.jsonl").read_text().count("\n")
    except OSError:
        return "waiting", 0
    return ("attack" if (cell.run / "DONE").exists() else "train"), epochs
