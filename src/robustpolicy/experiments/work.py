"""What a sweep's jobs do, in whatever process: train a prefix or a cell, measure, write."""

from __future__ import annotations

import contextlib
import dataclasses
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout

from robustpolicy.attacks import ATTACKS, Threat, Transfer
from robustpolicy.data import load_dataset
from robustpolicy.errors import UserError
from robustpolicy.evaluation import Plan, evaluate_run
from robustpolicy.experiments.cells import Cell, lock_of
from robustpolicy.experiments.paper import IMAGES, Measure
from robustpolicy.experiments.results import evaluations_of, second_stage_epoch
from robustpolicy.training.environment import public_environment, resolve_device
from robustpolicy.training.files import make_folder, write_json
from robustpolicy.training.fork import fork, in_second_stage, prefix_complete
from robustpolicy.training.recipe import Recipe
from robustpolicy.training.run import Run
from robustpolicy.training.trainer import train


@dataclass(frozen=True)
class Done:
    """What a job says.

    Attributes:
        busy: another process has the folder: nothing was done, look again later.
        warnings: what the user should know.
    """

    busy: bool = False
    warnings: tuple[str, ...] = ()


BUSY = Done(busy=True)


@dataclass(frozen=True)
class Where:
    """Where a sweep takes place.

    Attributes:
        data_dirs: folders to look for the data in first.
        device: ``"auto"``, ``"cpu"``, ``"cuda"`` or ``"mps"``.
    """

    data_dirs: tuple[Path, ...] = ()
    device: str = "auto"


def train_prefix(recipe: Recipe, run: Path, where: Where) -> Done:
    """Train a prefix to its second stage, or go on with it."""
    with _claimed(run) as mine:
        if not mine:
            return BUSY
        warnings = _set_aside(run, recipe)
        if not ((run / "recipe.json").exists() and prefix_complete(Run.open(run))):
            train(
                recipe,
                run,
                data_dirs=where.data_dirs,
                device=where.device,
                until=in_second_stage,
            )
    return Done(warnings=warnings)


def train_surrogate(recipe: Recipe, run: Path, where: Where) -> Done:
    """Train a model on which transferred examples are crafted."""
    with _claimed(run) as mine:
        if not mine:
            return BUSY
        warnings = _set_aside(run, recipe)
        train(recipe, run, data_dirs=where.data_dirs, device=where.device)
    return Done(warnings=warnings)


def run_cell(cell: Cell, prefix: Path | None, surrogate: Path | None, where: Where) -> Done:
    """Train a cell, measure what is missing, write its result; resumes all of these.

    Args:
        cell: its measures are those that are missing.
        prefix: run folder of the epochs that it shares with others; None if it shares none.
        surrogate: run folder of the model on which transferred examples are crafted.
        where: data and device.

    Raises:
        UserError: as in training and evaluation.
    """
    with _claimed(cell.run) as mine:
        if not mine:
            return BUSY
        if cell.done:  # another sweep was faster
            return Done()
        warnings = _set_aside(cell.run, cell.recipe)
        if surrogate is not None and not _finished(surrogate):
            return BUSY
        if prefix is not None and not (cell.run / "checkpoint.pt").exists():
            shared = _opened(prefix)
            if shared is None or not prefix_complete(shared):
                return BUSY
            fork(shared, cell.recipe, cell.run)
        run = train(cell.recipe, cell.run, data_dirs=where.data_dirs, device=where.device)
        _link(cell)
        found = _evaluate(run, cell.measures, surrogate, where)
        make_folder(cell.result.parent)
        write_json(cell.result, _result(cell, run, found))
    return Done(warnings=warnings)


def build_attack(measure: Measure, surrogate: Path | None, device: torch.device) -> Any:
    """The attack of a measure; ``"clean"`` for none."""
    if measure.attack == "clean":
        return "clean"
    if measure.attack == "transfer":
        assert surrogate is not None
        model = Run.open(surrogate).load_model().to(device)
        return Transfer((model,), labels=("cross-entropy, another seed",))
    return dataclasses.replace(ATTACKS[measure.attack], **dict(measure.settings))


def _evaluate(
    run: Run, measures: Sequence[Measure], surrogate: Path | None, where: Where
) -> list[dict[str, Any]]:
    """One evaluation for each radius and number of samples."""
    device = resolve_device(where.device)
    load = partial(load_dataset, run.recipe.dataset, where.data_dirs)
    whole = IMAGES[run.recipe.dataset][1]
    groups: dict[tuple[float, int | None], dict[tuple[Any, ...], Any]] = {}
    for measure in measures:
        few = measure.samples is not None and measure.samples < whole
        group = groups.setdefault(
            (measure.epsilon, measure.samples if few else None), {("clean", ()): "clean"}
        )
        key = (measure.attack, measure.settings)  # two tables may name one attack in two ways
        if key not in group:
            group[key] = build_attack(measure, surrogate, device)
    return [
        evaluate_run(run, Plan(Threat(epsilon), tuple(attacks.values()), samples), load, device)
        for (epsilon, samples), attacks in groups.items()
    ]


def _result(cell: Cell, run: Run, found: list[dict[str, Any]]) -> dict[str, Any]:
    """The result as it is written, with what an earlier call has measured on the same recipe."""
    history = run.history()
    environment = run.environment()
    forked = environment.pop("forked", {})
    before = [
        evaluation
        for result in cell.own_results().of(cell.recipe)
        for evaluation in evaluations_of(result)
    ]
    return {
        "row": cell.label,
        "reduced": cell.reduced,
        "recipe_id": cell.recipe.id,
        "recipe": cell.recipe.to_json(),
        "environment": public_environment(environment),
        "training": {
            "seconds": round(sum(record["seconds"] for record in history), 1),
            "shared_epochs": forked.get("epochs", 0),
            "second_stage_epoch": second_stage_epoch(history),
            "loss": [round(record["loss"], 6) for record in history],
            "watched_accuracy": [record["watched_accuracy"] for record in history],
        },
        "evaluations": [*before, *found],
    }


def _link(cell: Cell) -> None:
    """Let the run be found by the cell's name too; a link, since tables overlap."""
    link = cell.run.parent.parent / cell.name
    with contextlib.suppress(OSError):  # not every file system has links
        link.parent.mkdir(parents=True, exist_ok=True)
        if link.is_symlink():
            link.unlink()
        link.symlink_to(os.path.relpath(cell.run, link.parent))


@contextlib.contextmanager
def _claimed(run: Path) -> Iterator[bool]:
    """Whether a run folder is this process's, and nobody else's until the end."""
    make_folder(run.parent)
    lock = FileLock(lock_of(run))
    try:
        lock.acquire(timeout=0)
        if (run / "lock").exists():  # somebody may train there without a sweep
            with FileLock(run / "lock", timeout=0):
                pass
    except Timeout:
        lock.release()
        yield False
        return
    except OSError as error:
        raise UserError(
            f"cannot write in {run.parent}: {error.strerror}; choose another --output"
        ) from None
    try:
        yield True
    finally:
        lock.release()


def _set_aside(run: Path, recipe: Recipe) -> tuple[str, ...]:
    """Rename a folder that cannot be gone on with; returns the warning that says so."""
    reason = _damage(run, recipe)
    if reason is None:
        return ()
    number = 1
    while (aside := run.with_name(f"{run.name}.damaged-{number}")).exists():
        number += 1
    try:
        run.rename(aside)
    except OSError as error:
        raise UserError(
            f"{run} is damaged ({reason}) and cannot be renamed: {error.strerror}; delete it"
        ) from None
    return (f"{reason}; the folder is now {aside.name}, and is done again",)


def _damage(path: Path, recipe: Recipe) -> str | None:
    """Why a run folder cannot be gone on with; None if it can, or is not there."""
    if not path.is_dir() or all(p.name[0] == "." or p.name == "lock" for p in path.iterdir()):
        return None
    try:
        run = Run.open(path)
        run.history()
        if run.recipe != recipe:
            return f"{path} holds another run"
        if run.done:
            run.load_model()
        run.load_checkpoint()
    except UserError as error:
        return str(error).split(";")[0]
    return None


def _opened(path: Path) -> Run | None:
    return Run.open(path) if (path / "recipe.json").exists() else None


def _finished(path: Path) -> bool:
    run = _opened(path)
    return run is not None and run.done
