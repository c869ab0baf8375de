"""Finished runs side by side: recipes, curves, robust accuracy, and pairs sample by sample."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from robustpolicy.data import Dataset
from robustpolicy.errors import UserError
from robustpolicy.evaluation import Plan, evaluate_run
from robustpolicy.evaluation.judge import Progress, silent
from robustpolicy.experiments.results import second_stage_epoch
from robustpolicy.experiments.statistics import holm, mcnemar, newcombe
from robustpolicy.training.differences import differences, flatten
from robustpolicy.training.environment import public_environment
from robustpolicy.training.run import Run

#: What stands for all attacks together, beside their names.
WORST = "worst case"


def open_runs(paths: Sequence[str | Path]) -> list[Run]:
    """Open runs that can be compared.

    Raises:
        UserError: fewer than two, one given twice, no run folder, unfinished, or trained on
            different data sets.
    """
    if len(paths) < 2:
        given = f"{len(paths) or 'no'} run folder{'s' if len(paths) != 1 else ''}"
        raise UserError(f"{given} given; compare takes at least two, before its options")
    seen: set[Path] = set()
    for path in map(Path, paths):
        if path.resolve() in seen:
            raise UserError(f"{path} is given twice; give different run folders")
        seen.add(path.resolve())
    runs = [Run.open(path) for path in paths]
    for run in runs:
        run.check_done()
        if run.recipe.dataset != runs[0].recipe.dataset:
            raise UserError(
                f"{run.path} was trained on {run.recipe.dataset}, {runs[0].path} on "
                f"{runs[0].recipe.dataset}; samples are paired, so give runs of one data set"
            )
    return runs


def short_names(paths: Sequence[str | Path]) -> list[str]:
    """The last parts of each path, as many as tell them apart.

    Example:
        >>> short_names(["runs/a/seed0", "runs/b/seed0"])
        ['a/seed0', 'b/seed0']
    """
    parts = [Path(os.path.abspath(path)).parts for path in paths]
    for count in range(1, max(map(len, parts))):
        names = [str(Path(*own[-count:])) for own in parts]
        if len(set(names)) == len(names):
            return names
    return [str(Path(*own)) for own in parts]


def compare_runs(
    runs: Sequence[Run],
    plan: Plan,
    load: Callable[[], Dataset],
    device: torch.device,
    progress: Progress = silent,
) -> dict[str, Any]:
    """Compare runs; the first one is the reference. What is evaluated is kept in the run folders.

    Args:
        runs: at least two, see :func:`open_runs`.
        plan: evaluated on each of them.
        load: gives the data set; called only if there is something to evaluate.
        device: where to evaluate.
        progress: called after each batch, with the run's name before the attack's.

    Returns:
        Plain data. ``recipes``: fields that ``differ``, one value a run, and those ``in_common``.
        ``environments``: likewise. ``runs``: name, recipe, history, evaluation with per-sample
        flags of each. ``paired``: each run against the first under each attack.

    Raises:
        UserError: evaluations in the run folders that are not of the same samples.
    """
    names = short_names([run.path for run in runs])
    told = [_describe(run, name) for run, name in zip(runs, names, strict=True)]
    for run, one in zip(runs, told, strict=True):
        one["evaluation"] = evaluate_run(run, plan, load, device, _named(progress, one["name"]))
        if one["evaluation"]["n"] != told[0]["evaluation"]["n"]:
            raise UserError(
                f"{run.path} was evaluated on {one['evaluation']['n']} samples, {runs[0].path} on "
                f"{told[0]['evaluation']['n']}; delete {run.path / 'evaluation'} to do it again"
            )
    return {
        "recipes": _sides([one["recipe"] for one in told]),
        "environments": _sides([one["environment"] for one in told]),
        "runs": told,
        "paired": pair(names, [one["evaluation"] for one in told]),
    }


def pair(names: Sequence[str], evaluations: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Each evaluation against the first, sample by sample, under each attack and the worst case.

    Args:
        names: one an evaluation.
        evaluations: as :meth:`robustpolicy.evaluation.Plan.run` returns them, same samples.

    Returns:
        A record a comparison: counts of samples that are robust in ``both``, in one only, or in
        ``neither``; ``difference`` of robust accuracy, the run's less the reference's, and its
        ``interval`` (Newcombe, 95 %); ``p`` (McNemar, exact), and ``p_holm`` adjusted for all
        comparisons returned.
    """
    flags = [_flags(one) for one in evaluations]
    found: list[dict[str, Any]] = []
    for name, own in zip(names[1:], flags[1:], strict=True):
        for attack, robust in own.items():
            outcomes = list(zip(flags[0][attack], robust, strict=True))
            both, only_a, only_b, neither = (
                outcomes.count(case)
                for case in [(True, True), (True, False), (False, True), (False, False)]
            )
            found.append(
                {
                    "attack": attack,
                    "reference": names[0],
                    "run": name,
                    "both": both,
                    "only_reference": only_a,
                    "only_run": only_b,
                    "neither": neither,
                    "difference": (only_b - only_a) / len(outcomes),
                    "interval": list(newcombe(both, only_b, only_a, neither)),
                    "p": mcnemar(only_a, only_b),
                }
            )
    for one, adjusted in zip(found, holm([one["p"] for one in found]), strict=True):
        one["p_holm"] = adjusted
    return found


def _describe(run: Run, name: str) -> dict[str, Any]:
    history = run.history()
    if not history:
        raise UserError(
            f"{run.path / 'history.jsonl'} is empty; delete it, and the train command makes it anew"
        )
    return {
        "name": name,
        "path": str(run.path),
        "recipe_id": run.recipe.id,
        "recipe": run.recipe.to_json(),
        "environment": public_environment(run.environment()),
        "seconds": round(sum(record["seconds"] for record in history), 1),
        "second_stage_epoch": second_stage_epoch(history),
        "history": history,
    }


def _named(progress: Progress, name: str) -> Progress:
    """Progress that says whose attack it is."""
    return lambda attack, done, total: progress(f"{name} {attack}", done, total)


def _sides(trees: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Fields that differ, one value a tree, and those that do not."""
    differ = differences(trees)
    common = {key: value for key, value in flatten(trees[0]).items() if key not in differ}
    return {"differ": differ, "in_common": common}


def _flags(evaluation: dict[str, Any]) -> dict[str, list[bool]]:
    """Which samples are robust, by attack; and in the worst case, if it is not one attack's."""
    flags = {
        name: [flag == "1" for flag in attack["robust"]]
        for name, attack in evaluation["attacks"].items()
    }
    if len(flags.keys() - {"clean"}) > 1:
        flags[WORST] = [all(case) for case in zip(*flags.values(), strict=True)]
    return flags
