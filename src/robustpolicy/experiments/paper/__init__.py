"""The experiments as data: cells, recipes, measures, and what the paper prints. No torch here."""

from __future__ import annotations

from robustpolicy.errors import UserError
from robustpolicy.experiments.paper.experiment import (
    ATTACK_NAMES,
    IMAGES,
    Experiment,
    Measure,
    Row,
)
from robustpolicy.experiments.paper.grids import FIGURE3, TABLE1, TABLE2
from robustpolicy.experiments.paper.measures import surrogate_of
from robustpolicy.experiments.paper.methods import TABLE3, TABLE4, TABLE5, TABLE6
from robustpolicy.experiments.paper.own import (
    DIGITS,
    EQ4_ALONE,
    MNIST,
    MNIST_FULL,
    RL,
    RL_STAGES,
)

#: What ``reproduce all`` runs.
PAPER = (TABLE1, TABLE2, TABLE3, TABLE4, TABLE5, TABLE6, FIGURE3)
_OWN = (DIGITS, MNIST, MNIST_FULL, EQ4_ALONE, RL, RL_STAGES)
#: Every experiment by name.
EXPERIMENTS: dict[str, Experiment] = {experiment.name: experiment for experiment in (*PAPER, *_OWN)}


def get_experiment(name: str) -> Experiment:
    """The experiment of this name.

    Raises:
        UserError: unknown; lists the known ones.
    """
    if name not in EXPERIMENTS:
        raise UserError(f"unknown experiment {name!r}; choose one of {', '.join(EXPERIMENTS)}")
    return EXPERIMENTS[name]


__all__ = [
    "ATTACK_NAMES",
    "EXPERIMENTS",
    "IMAGES",
    "PAPER",
    "Experiment",
    "Measure",
    "Row",
    "get_experiment",
    "surrogate_of",
]
