"""Results: one small JSON a cell, in one folder an experiment. Found by recipe, not by name."""

from __future__ import annotations

import dataclasses
import json
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from robustpolicy.errors import UserError
from robustpolicy.experiments.paper import IMAGES, Experiment, Measure, Row
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


@dataclass(frozen=True)
class Measured:
    """What one attack left of one trained model.

    Attributes:
        robust: samples that withstood.
        n: samples in all.
        entry: the attack's record.
        evaluation: the evaluation that it is from.
    """

    robust: int
    n: int
    entry: dict[str, Any]
    evaluation: dict[str, Any]

    @property
    def percent(self) -> float:
        """Robust accuracy in percent."""
        return 100 * self.robust / self.n


class Results:
    """What is measured, by recipe, whatever experiment it was measured for.

    There is no index file: reading a thousand results takes a second, and a file could be wrong.

    Args:
        folders: each holds a folder an experiment, as ``results/`` does; one that does not exist is
            empty. Files without a recipe are others' (audits, benchmarks).

    Attributes:
        damaged: files that cannot be read, with the reason.
    """

    def __init__(self, *folders: Path) -> None:
        self.damaged: dict[Path, str] = {}
        self._by_recipe: dict[Recipe, list[dict[str, Any]]] = {}
        self._by_bare: dict[Recipe, list[Recipe]] = {}  # without the seed
        seen: set[Path] = set()
        for folder in folders:
            for path in sorted(folder.glob("*/*.json")):
                if path.resolve() not in seen:
                    seen.add(path.resolve())
                    self.read(path)

    def read(self, path: Path) -> None:
        """Take a file in, if there is one."""
        try:
            result = json.loads(path.read_text())
            if not isinstance(result, dict) or "recipe" not in result:
                return
            recipe = Recipe.from_json(result["recipe"])
            evaluations_of(result)
        except FileNotFoundError:
            return
        except (OSError, ValueError, KeyError, TypeError) as error:
            self.damaged[path] = str(error)
            return
        self.add(recipe, {**result, "experiment": path.parent.name})

    def add(self, recipe: Recipe, result: dict[str, Any]) -> None:
        """Take a result in."""
        if recipe not in self._by_recipe:
            self._by_bare.setdefault(_bare(recipe), []).append(recipe)
        self._by_recipe.setdefault(recipe, []).append(result)

    def __iter__(self) -> Iterator[Recipe]:
        """Every recipe that there is a result of."""
        return iter(self._by_recipe)

    def of(self, recipe: Recipe) -> list[dict[str, Any]]:
        """The results of a recipe, its seed included."""
        return self._by_recipe.get(recipe, [])

    def find(self, recipe: Recipe, measure: Measure) -> Measured | None:
        """What this measure gave for a recipe, on the most samples; None if it is not measured."""
        found = (_find(e, measure) for result in self.of(recipe) for e in evaluations_of(result))
        return max(filter(None, found), key=lambda one: one.n, default=None)

    def missing(self, recipe: Recipe, measures: Sequence[Measure]) -> tuple[Measure, ...]:
        """The measures that are still to be taken, or were taken on fewer samples."""
        found = {measure: self.find(recipe, measure) for measure in measures}
        return tuple(m for m, one in found.items() if one is None or one.n < samples_of(m, recipe))

    def done(self, recipe: Recipe, measures: Sequence[Measure]) -> bool:
        """Whether this recipe is trained and each measure taken."""
        return bool(self.of(recipe)) and not self.missing(recipe, measures)

    def seeds(self, row: Row) -> list[Recipe]:
        """The recipes of a row that there are results of, seeds rising."""
        same = self._by_bare.get(_bare(row.recipe), [])
        return sorted(same, key=lambda recipe: recipe.seed)

    def check(self) -> None:
        """Raise UserError if a file could not be read."""
        for path, reason in self.damaged.items():
            raise UserError(f"{path} is not a result ({reason}); delete it, or restore it")


def _bare(recipe: Recipe) -> Recipe:
    return dataclasses.replace(recipe, seed=0)


def samples_of(measure: Measure, recipe: Recipe) -> int:
    """Test images that a measure is to be taken on."""
    whole = IMAGES[recipe.dataset][1]
    return whole if measure.samples is None else min(measure.samples, whole)


def evaluations_of(result: dict[str, Any]) -> list[dict[str, Any]]:
    """The evaluations of a result; older files have one alone."""
    return result["evaluations"] if "evaluations" in result else [result["evaluation"]]


def _find(evaluation: dict[str, Any], measure: Measure) -> Measured | None:
    """A measure in an evaluation; None if it has none of these settings."""
    threat = evaluation["threat"]
    same = threat["norm"] == "Linf" and math.isclose(threat["epsilon"], measure.epsilon)
    if measure.attack != "clean" and not same:
        return None
    if ":" in str(evaluation["samples"]):  # the head of a data set is no fair sample
        return None
    # An evaluation numbers an attack's name where it comes again.
    name = re.compile(rf"{re.escape(measure.attack)}(-\d+)?")
    for attack, entry in evaluation["attacks"].items():
        config = entry["config"]
        fits = all(_same(config.get(key), value) for key, value in measure.settings)
        if name.fullmatch(attack) and fits:
            n = evaluation["n"]
            return Measured(round(entry["robust_accuracy"] * n), n, entry, evaluation)
    return None


def _same(a: Any, b: Any) -> bool:
    if isinstance(a, float) and isinstance(b, float):
        return math.isclose(a, b)
    return a == b


def cell_name(row: Row, recipe: Recipe) -> str:
    """File and folder name of a cell: a changed recipe has another."""
    return f"{row.key}-seed{recipe.seed}-{recipe.id}"


def read_results(folder: Path, experiment: Experiment) -> dict[str, list[dict[str, Any]]]:
    """Results of an experiment by row key, seeds rising; only those of the row's own recipe.

    Raises:
        UserError: a file that is not a result.
    """
    found = Results(folder)
    found.check()
    return {
        row.key: [found.of(recipe)[0] for recipe in found.seeds(row)] for row in experiment.rows
    }


def summarise(results: list[dict[str, Any]], attack: str) -> Summary | None:
    """Robust accuracy over seeds, in percent; None where nothing is measured."""
    values = tuple(
        100 * evaluation["attacks"][attack]["robust_accuracy"]
        for result in results
        for evaluation in evaluations_of(result)[:1]
        if attack in evaluation["attacks"]
    )
    return Summary(values) if values else None


def lost_classes(result: dict[str, Any]) -> int:
    """Classes of which not one test image is classified correctly, which an average hides."""
    evaluation = evaluations_of(result)[0]
    return sum(share == 0 for share in evaluation.get("clean_accuracy_by_class") or ())


def second_stage_epoch(history: list[dict[str, Any]]) -> int | None:
    """The first epoch (from 1) trained in stage 2; None if there is none."""
    return next((record["epoch"] for record in history if record.get("stage") == 2), None)
