"""What an experiment's table says, as records: the paper's number and ours, one a measure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import mean
from typing import Any

from robustpolicy.evaluation.intervals import wilson
from robustpolicy.experiments.paper import IMAGES, Experiment, Measure, Row
from robustpolicy.experiments.results import Measured, Results
from robustpolicy.experiments.statistics import holm, paired_t, t_interval
from robustpolicy.training.recipe import TwoStage


@dataclass(frozen=True)
class Measurement:
    """One measure of one row: the paper's number and ours, in percent.

    Attributes:
        experiment: its name.
        row: key of the row.
        label: the row's name in tables.
        measure: key of the measure.
        heading: the measure's name in tables.
        epsilon: radius.
        lambda_1: in a grid.
        lambda_2: in a grid.
        paper: as printed; None where the paper has nothing.
        ours: mean over seeds; None where nothing is measured.
        low: lower bound of the 95 % interval.
        high: upper bound.
        interval: what kind of interval: ``"t over seeds"`` or, of one seed, ``"Wilson"``.
        seeds: the seeds.
        values: one a seed.
        images: test images; the fewest, where seeds differ.
        reduced: how the experiment, or this measure, is reduced; empty if it is not.
    """

    experiment: str
    row: str
    label: str
    measure: str
    heading: str
    epsilon: float
    lambda_1: float | None
    lambda_2: float | None
    paper: str | None
    ours: float | None
    low: float | None
    high: float | None
    interval: str
    seeds: tuple[int, ...]
    values: tuple[float, ...]
    images: int
    reduced: str


def measurements(experiment: Experiment, results: Results) -> list[Measurement]:
    """Every row and measure of an experiment, measured or not."""
    return [
        _measurement(experiment, row, measure, results)
        for row in experiment.rows
        for measure in row.measures
    ]


def _measurement(
    experiment: Experiment, row: Row, measure: Measure, results: Results
) -> Measurement:
    recipes = results.seeds(row)
    found = {recipe.seed: results.find(recipe, measure) for recipe in recipes}
    there = {seed: one for seed, one in found.items() if one is not None}
    if there:  # never seeds of different numbers of images in one mean
        most = max(one.n for one in there.values())
        there = {seed: one for seed, one in there.items() if one.n == most}
    low, high, kind = _interval(list(there.values()))
    first, second = row.place or (None, None)
    images = min((one.n for one in there.values()), default=0)
    return Measurement(
        experiment.name,
        row.key,
        row.label,
        measure.key,
        measure.label,
        measure.epsilon,
        first,
        second,
        row.paper.get(measure.key),
        mean(one.percent for one in there.values()) if there else None,
        low,
        high,
        kind,
        tuple(there),
        tuple(one.percent for one in there.values()),
        images,
        _reduced(experiment, row, measure, images),
    )


def _interval(found: Sequence[Measured]) -> tuple[float | None, float | None, str]:
    if not found:
        return None, None, ""
    if len(found) == 1:
        low, high = (100 * bound for bound in wilson(found[0].robust, found[0].n))
        return low, high, "Wilson"
    low, high = t_interval([one.percent for one in found])
    return max(0.0, low), min(100.0, high), "t over seeds"


def _reduced(experiment: Experiment, row: Row, measure: Measure, images: int) -> str:
    """The experiment's marks, or that a measure of the paper was taken on fewer images."""
    if not images:
        return ""
    marks = list(experiment.reduced)
    own = measure.key in row.paper
    fewer = images < IMAGES[row.recipe.dataset][1] and own
    if fewer and not any("images" in mark for mark in marks):
        marks.append(f"{images} test images, drawn at random")
    return "; ".join(marks)


def stuck_in_first_stage(experiment: Experiment, results: Results) -> tuple[int, int]:
    """Trainings whose second stage never began, so that lambda_2 had no say; and all with two."""
    stuck, count = 0, 0
    for row in experiment.rows:
        if isinstance(row.recipe.loss, TwoStage) and row.recipe.loss.warmup != "none":
            for recipe in results.seeds(row):
                count += 1
                training = results.of(recipe)[0].get("training", {})
                stuck += training.get("second_stage_epoch") is None
    return stuck, count


@dataclass(frozen=True)
class Difference:
    """One measure of a row less that of the row it is compared with, seed by seed.

    Attributes:
        row: key of the row.
        label: its name in tables.
        against: the other's name.
        measure: key of the measure.
        heading: its name in tables.
        mean: mean difference, in points.
        low: lower bound of its 95 % t interval.
        high: upper bound.
        p: of the paired t test.
        p_holm: adjusted for all rows of the experiment under this measure.
        seeds: that both have.
    """

    row: str
    label: str
    against: str
    measure: str
    heading: str
    mean: float
    low: float
    high: float
    p: float
    p_holm: float
    seeds: int


def paired_differences(
    experiment: Experiment, results: Results, reference: Experiment | None = None
) -> list[Difference]:
    """Rows against those that they are to be compared with, where two seeds or more have both.

    Args:
        experiment: its rows say with which row of it each is compared.
        results: what is measured.
        reference: another experiment instead: each row is compared with that of the same key there
            (another method over the same grid), or with its only row.
    """
    rows = {row.key: row for row in (reference or experiment).rows}
    found: dict[str, list[dict[str, Any]]] = {}
    for row in experiment.rows:
        key = row.against if reference is None else row.key
        other = rows.get(key)
        if reference is not None and len(rows) == 1:
            other = next(iter(rows.values()))
        if other is None:
            continue
        for measure in row.measures:
            ours, theirs = _by_seed(results, row, measure), _by_seed(results, other, measure)
            common = [seed for seed in ours if seed in theirs and ours[seed].n == theirs[seed].n]
            if len(common) < 2:
                continue
            differences = [ours[seed].percent - theirs[seed].percent for seed in common]
            low, high = t_interval(differences)
            found.setdefault(measure.key, []).append(
                {
                    "row": row.key,
                    "label": row.label,
                    "against": other.label,
                    "measure": measure.key,
                    "heading": measure.label,
                    "mean": mean(differences),
                    "low": low,
                    "high": high,
                    "p": paired_t(differences),
                    "seeds": len(common),
                }
            )
    return [
        Difference(**one, p_holm=adjusted)
        for same in found.values()
        for one, adjusted in zip(same, holm([one["p"] for one in same]), strict=True)
    ]


def _by_seed(results: Results, row: Row, measure: Measure) -> dict[int, Measured]:
    found = {recipe.seed: results.find(recipe, measure) for recipe in results.seeds(row)}
    return {seed: one for seed, one in found.items() if one is not None}
