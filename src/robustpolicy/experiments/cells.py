"""Cells: one training and what is measured on it, each recipe once. No torch here."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from robustpolicy.experiments.paper import Experiment, Measure, Row, surrogate_of
from robustpolicy.experiments.results import Results, cell_name
from robustpolicy.training.fork import continues, prefix_of
from robustpolicy.training.recipe import CrossEntropy, Recipe


@dataclass(frozen=True)
class Cell:
    """One training and what is measured on it.

    Attributes:
        name: such as ``table2/policy-0.75-1.5-seed0``.
        label: the row's label.
        recipe: with its seed.
        measures: what is measured.
        run: the run folder, a recipe's own.
        result: where the result is written.
        reduced: how the experiment is reduced; empty if it is not.
    """

    name: str
    label: str
    recipe: Recipe
    measures: tuple[Measure, ...]
    run: Path
    result: Path
    reduced: str = ""

    @property
    def done(self) -> bool:
        """Whether its own result is there, with all its measures."""
        return self.is_done(self.own_results())

    def own_results(self) -> Results:
        """What its own result file holds."""
        results = Results()
        results.read(self.result)
        return results

    def is_done(self, results: Results) -> bool:
        """Whether a result of this very recipe, with these measures, is there."""
        return results.done(self.recipe, self.measures)


def plan_cells(
    experiment: Experiment, seeds: Iterable[int], output: Path, results: Path | None = None
) -> list[Cell]:
    """Cells of an experiment, seed by seed.

    Args:
        experiment: rows and recipes.
        seeds: one cell a row and seed.
        output: run folders go to ``output/cells``, each named by its recipe; a link in
            ``output/experiment`` names it by its row.
        results: results go to ``results/experiment``; to ``output/results`` if None.
    """
    return [
        _cell(experiment, row, seed, output, results or output / "results")
        for seed in seeds
        for row in experiment.rows
    ]


def _cell(experiment: Experiment, row: Row, seed: int, output: Path, results: Path) -> Cell:
    recipe = dataclasses.replace(row.recipe, seed=seed)
    return Cell(
        f"{experiment.name}/{row.key}-seed{seed}",
        row.label,
        recipe,
        row.measures,
        run_folder(output, recipe),
        results / experiment.name / f"{cell_name(row, recipe)}.json",
        "; ".join(experiment.reduced),
    )


def run_folder(output: Path, recipe: Recipe) -> Path:
    """The run folder of a recipe: the same whatever experiment it is for."""
    return output / "cells" / _folder_name(recipe)


def lock_of(run: Path) -> Path:
    """The lock of a run folder in a sweep. It lies beside it: the folder may be set aside."""
    return run.with_name(f".{run.name}.lock")


def _folder_name(recipe: Recipe) -> str:
    return f"{recipe.dataset}-{recipe.loss.name}-seed{recipe.seed}-{recipe.id}"


def merged(cells: Sequence[Cell]) -> list[Cell]:
    """Each recipe once, with the measures of all cells that have it; tables overlap."""
    found: dict[Recipe, Cell] = {}
    for cell in cells:
        before = found.get(cell.recipe)
        if before is not None:
            measures = tuple(dict.fromkeys((*before.measures, *cell.measures)))
            cell = dataclasses.replace(before, measures=measures)
        found[cell.recipe] = cell
    return list(found.values())


@dataclass(frozen=True)
class Prefix:
    """Epochs that several cells share.

    Attributes:
        recipe: trained until its second stage begins.
        run: its run folder.
        cells: names of those that go on from it.
    """

    recipe: Recipe
    run: Path
    cells: tuple[str, ...]


def shared_prefixes(cells: Sequence[Cell], output: Path) -> list[Prefix]:
    """The prefixes that two cells or more have in common, among those not begun yet.

    A cell that is under way goes on from its own checkpoint. One cell alone gains nothing, but
    takes what an earlier call has left.

    Args:
        cells: that are still to be trained.
        output: prefixes go to ``output/prefixes``.
    """
    found = []
    for recipe, members in prefix_groups(
        [cell for cell in cells if not (cell.run / "checkpoint.pt").exists()]
    ).items():
        run = output / "prefixes" / _folder_name(recipe)
        if len(members) > 1 or (run / "checkpoint.pt").exists():
            found.append(Prefix(recipe, run, tuple(cell.name for cell in members)))
    return found


def prefix_groups(cells: Sequence[Cell]) -> dict[Recipe, list[Cell]]:
    """The prefix of each cell that has one -> the cells that begin with it."""
    groups: dict[Recipe, list[Cell]] = {}
    for cell in cells:
        prefix = prefix_of(cell.recipe)
        if prefix is not None:
            groups.setdefault(prefix, []).append(cell)
    for cell in cells:  # cross-entropy throughout joins a warm-up of it, if there is one
        if isinstance(cell.recipe.loss, CrossEntropy):
            fitting = [prefix for prefix in groups if continues(prefix, cell.recipe)]
            if fitting:
                groups[fitting[0]].append(cell)
    return groups


def surrogates(cells: Sequence[Cell], output: Path) -> dict[str, tuple[Recipe, Path]]:
    """Name of each cell that attacks by transfer -> recipe and folder of its surrogate."""
    return {
        cell.name: (recipe, run_folder(output, recipe))
        for cell in cells
        if any(measure.attack == "transfer" for measure in cell.measures)
        for recipe in [surrogate_of(cell.recipe)]
    }
