"""Training-loss curves at fixed lambda_2 (Figure 3), and how much they fluctuate."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from robustpolicy.experiments.paper import Experiment
from robustpolicy.experiments.results import Results


def fluctuation(losses: Sequence[float]) -> float:
    r"""How much a curve goes back and forth: 0 where it only falls, or only rises.

    .. math:: \frac{1}{n - 1} \left( \sum_t |L_{t+1} - L_t| - |L_n - L_1| \right)

    Args:
        losses: one an epoch; fewer than two do not fluctuate.

    Example:
        >>> fluctuation([3.0, 1.0, 2.0, 0.0])  # up by 1 on the way, and down again
        0.6666666666666666
    """
    if len(losses) < 2:
        return 0.0
    steps = [b - a for a, b in pairwise(losses)]
    return (sum(map(abs, steps)) - abs(sum(steps))) / len(steps)


@dataclass(frozen=True)
class Curve:
    """One training's loss.

    Attributes:
        lambda_1: penalty of the first stage.
        lambda_2: penalty of the second.
        seed: of the training.
        losses: one an epoch.
        second: first epoch (from 1) of the second stage; None if it never began.
    """

    lambda_1: float
    lambda_2: float
    seed: int
    losses: tuple[float, ...]
    second: int | None

    @property
    def fluctuation(self) -> float:
        """How much the second stage's losses fluctuate; the first stage's are of another loss."""
        return fluctuation(self.losses[self.second - 1 :]) if self.second else 0.0


def training_curves(experiment: Experiment, results: Results) -> list[Curve]:
    """The curves of an experiment's cells that are trained, in the order of its rows."""
    found = []
    for row in experiment.rows:
        if row.place is None:
            continue
        for recipe in results.seeds(row):
            training = results.of(recipe)[0]["training"]
            losses, second = tuple(training["loss"]), training["second_stage_epoch"]
            found.append(Curve(*row.place, recipe.seed, losses, second))
    return found
