"""Running the cells of an experiment: train, evaluate, write; skip what is done."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from robustpolicy.experiments.paper import Experiment, Row
from robustpolicy.experiments.results import cell_name, second_stage_epoch
from robustpolicy.training.processes import run_processes
from robustpolicy.training.recipe import Recipe


@dataclass(frozen=True)
class Cell:
    """One training and its evaluation.

    Attributes:
        name: such as ``policy-seed0``.
        label: the row's label.
        recipe: with its seed.
        run: the run folder.
        result: where the result is written.
        samples: how many test images are attacked; None takes all.
    """

    name: str
    label: str
    recipe: Recipe
    run: Path
    result: Path
    samples: int | None = None

    @property
    def done(self) -> bool:
        """Whether the result of this very recipe is there."""
        try:
            return Recipe.from_json(json.loads(self.result.read_text())["recipe"]) == self.recipe
        except (OSError, ValueError, KeyError, TypeError):
            return False


def plan_cells(
    experiment: Experiment, seeds: Sequence[int], output: Path, results: Path | None = None
) -> list[Cell]:
    """Cells of an experiment, seed by seed.

    Args:
        experiment: rows and recipes.
        seeds: one cell a row and seed.
        output: run folders go to ``output/experiment``.
        results: results go to ``results/experiment``; beside the runs if None.
    """
    return [
        _cell(experiment, row, seed, output, results) for seed in seeds for row in experiment.rows
    ]


def _cell(experiment: Experiment, row: Row, seed: int, output: Path, results: Path | None) -> Cell:
    name = cell_name(row, seed)
    return Cell(
        name,
        row.label,
        dataclasses.replace(row.recipe, seed=seed),
        output / experiment.name / name,
        (results or output / "results") / experiment.name / f"{name}.json",
        experiment.samples,
    )


def run_cell(
    cell: Cell,
    data_dirs: Sequence[str | Path] = (),
    device: str = "auto",
    tell: Callable[[object], None] | None = None,
) -> None:
    """Train a cell, evaluate it as the paper does, and write its result; resumes both.

    Progress is read from the run folder, so ``tell`` is not used.

    Raises:
        UserError: as in training and evaluation.
    """
    import torch

    from robustpolicy.data import load_dataset
    from robustpolicy.evaluation import evaluate_run, paper_plan
    from robustpolicy.training.environment import public_environment, resolve_device
    from robustpolicy.training.files import make_folder, write_json
    from robustpolicy.training.trainer import train

    # A small network is fastest with one thread a process; more of them fight for the cores.
    if resolve_device(device).type == "cpu":
        torch.set_num_threads(1)
    run = train(cell.recipe, cell.run, data_dirs=data_dirs, device=device)
    load = partial(load_dataset, cell.recipe.dataset, data_dirs)
    plan = dataclasses.replace(paper_plan(cell.recipe.dataset), samples=cell.samples)
    evaluation = evaluate_run(run, plan, load, resolve_device(device))
    history = run.history()
    make_folder(cell.result.parent)
    write_json(
        cell.result,
        {
            "row": cell.label,
            "recipe_id": cell.recipe.id,
            "recipe": cell.recipe.to_json(),
            "environment": public_environment(run.environment()),
            "training": {
                "seconds": round(sum(record["seconds"] for record in history), 1),
                "second_stage_epoch": second_stage_epoch(history),
                "loss": [round(record["loss"], 6) for record in history],
                "watched_accuracy": [record["watched_accuracy"] for record in history],
            },
            "evaluation": evaluation,
        },
    )


def run_cells(
    cells: Sequence[Cell],
    *,
    workers: int | None = None,
    data_dirs: Sequence[str | Path] = (),
    device: str = "auto",
    watch: Callable[[], None] = lambda: None,
) -> None:
    """Run the cells that are not done, several processes at a time, one thread each.

    Args:
        cells: what to run; those with a result of their recipe are skipped.
        workers: processes, at least 1; as many as cores if None.
        data_dirs: folders to look for the data in first.
        device: ``"auto"``, ``"cpu"``, ``"cuda"`` or ``"mps"``.
        watch: called about once a second, to show progress (see :func:`progress_of`).

    Raises:
        UserError: the first error of a cell. The others under way are asked to stop; the same
            call goes on from their checkpoints.
        Interrupted: SIGINT or SIGTERM came; likewise.
    """
    todo = [cell for cell in cells if not cell.done]
    run_processes(
        run_cell,
        [(cell, data_dirs, device) for cell in todo],
        names=[cell.name for cell in todo],
        workers=workers or os.cpu_count() or 1,
        tick=watch,
    )


def progress_of(cell: Cell) -> tuple[str, int]:
    """What a cell is doing, and its complete epochs, read from its run folder.

    Works across processes and machines, as long as they share the folder.
    """
    if cell.done:
        return "done", cell.recipe.epochs
    try:
        epochs = (cell.run / "history.jsonl").read_text().count("\n")
    except OSError:
        return "waiting", 0
    return ("attack" if (cell.run / "DONE").exists() else "train"), epochs
