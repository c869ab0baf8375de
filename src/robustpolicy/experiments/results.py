"""Results: one small JSON a cell, and the summary of a table over its seeds."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from robustpolicy.errors import UserError
from robustpolicy.experiments.paper import Experiment, Row
from robustpolicy.training.recipe import Recipe


@dataclass(frozen=True)
class Summary:
    """One measured quantity of a row: its values over seeds, in percent."""

    values: tuple[float, ...]

    @property
    def mean(self) -> float:
        """Mean over seeds."""
        return sum(self.values) / len(self.values)

    def __str__(self) -> str:
        """Mean, and the range where there are several seeds."""
        if len(self.values) == 1:
            return f"{self.mean:.2f}"
        return f"{self.mean:.2f} ({min(self.values):.2f}–{max(self.values):.2f})"


def cell_name(row: Row, seed: int) -> str:
    """File and folder name of a cell."""
    return f"{row.key}-seed{seed}"


def read_results(folder: Path, experiment: Experiment) -> dict[str, list[dict[str, Any]]]:
    """Results of an experiment by row key, seeds rising; only those of the row's own recipe.

    Raises:
        UserError: a file that is not a result.
    """
    found: dict[str, list[dict[str, Any]]] = {row.key: [] for row in experiment.rows}
    for row in experiment.rows:
        for path in sorted((folder / experiment.name).glob(f"{row.key}-seed*.json")):
            try:
                result = json.loads(path.read_text())
                recipe = Recipe.from_json(result["recipe"])
            except (OSError, ValueError, KeyError, TypeError) as error:
                raise UserError(
                    f"{path} is not a result ({error}); delete it, or restore it"
                ) from None
            if same_but_seed(recipe, row.recipe):
                found[row.key].append(result)
        found[row.key].sort(key=lambda result: result["recipe"]["seed"])
    return found


def same_but_seed(a: Recipe, b: Recipe) -> bool:
    """Whether two recipes differ in nothing but their seed."""
    return {**a.to_json(), "seed": 0} == {**b.to_json(), "seed": 0}


def summarise(results: list[dict[str, Any]], attack: str) -> Summary | None:
    """Robust accuracy over seeds, in percent; None where nothing is measured."""
    values = tuple(
        100 * result["evaluation"]["attacks"][attack]["robust_accuracy"]
        for result in results
        if attack in result["evaluation"]["attacks"]
    )
    return Summary(values) if values else None


def lost_classes(result: dict[str, Any]) -> int:
    """Classes of which not one test image is classified correctly, which an average hides."""
    return sum(share == 0 for share in result["evaluation"].get("clean_accuracy_by_class") or ())


def second_stage_epoch(history: list[dict[str, Any]]) -> int | None:
    """The first epoch (from 1) trained in stage 2; None if there is none."""
    return next((record["epoch"] for record in history if record.get("stage") == 2), None)
