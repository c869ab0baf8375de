"""The forms of an experiment that there are results of: as declared, and over other epochs."""

from __future__ import annotations

import dataclasses

from robustpolicy.experiments.paper import Experiment
from robustpolicy.experiments.results import Results
from robustpolicy.training.recipe import Recipe


def variants(
    experiment: Experiment, results: Results, epochs: int | None = None
) -> list[Experiment]:
    """Forms of an experiment with a result at least, longest trainings first.

    Args:
        experiment: as it is declared.
        results: what is measured.
        epochs: this number of epochs alone.
    """
    lengths = sorted({recipe.epochs for recipe in results}, reverse=True)
    forms = {_recipes(experiment): experiment}
    for length in lengths:
        form = experiment.with_epochs(length)
        forms.setdefault(_recipes(form), form)
    return [
        form
        for form in forms.values()
        if any(results.seeds(row) for row in form.rows)
        and (epochs is None or all(row.recipe.epochs == epochs for row in form.rows))
    ]


def measured_part(experiment: Experiment, results: Results) -> Experiment:
    """Of a grid, the cells that there are results of; of another table, all."""
    if not experiment.grid:
        return experiment
    rows = tuple(row for row in experiment.rows if results.seeds(row))
    return dataclasses.replace(experiment, rows=rows)


def _recipes(experiment: Experiment) -> tuple[Recipe, ...]:
    return tuple(row.recipe for row in experiment.rows)
