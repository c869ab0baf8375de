"""Experiments that the paper does not have, and reduced ones of its own."""

from __future__ import annotations

import dataclasses

from robustpolicy.experiments.paper.experiment import Experiment, Row
from robustpolicy.experiments.paper.measures import plain_measures
from robustpolicy.experiments.paper.printed import TABLE_3
from robustpolicy.training.recipe import Recipe, Sgd, TwoStage
from robustpolicy.training.recipes import RECIPES

_MEASURES = plain_measures(0.1)
_CE, _OURS = TABLE_3["mnist", "ce"], TABLE_3["mnist", "policy"]


def _paper(name: str, **changes: object) -> Recipe:
    return dataclasses.replace(RECIPES[name], protocol="paper", **changes)  # type: ignore[arg-type]


# The same 40 epochs for both, so that neither is favoured by training longer.
_SHORT = {"epochs": 40, "optimizer": Sgd(drops=(10, 30))}


def _rows(**changes: object) -> tuple[Row, ...]:
    """The MNIST rows of Table 3."""
    policy = _paper("mnist-policy", **changes)
    return (
        Row("ce", "cross-entropy", _paper("mnist-ce", **changes), _MEASURES, _CE),
        Row("policy", "two stages (.75, 1.5)", policy, _MEASURES, _OURS, against="ce"),
    )


def _eq4_alone(actions: str, penalty: float) -> Row:
    loss = TwoStage(penalty=penalty, warmup="none", actions=actions)  # type: ignore[arg-type]
    return Row(
        f"eq4-{actions}-{penalty:g}",
        f"Eq. 4 alone, {actions}, penalty {penalty:g}",
        _paper("mnist-policy", loss=loss, **_SHORT),
        _MEASURES,
    )


DIGITS = Experiment(
    "digits",
    "Embedded digits, LeNet5: cross-entropy against two stages",
    "Not in the paper. These digits are too few and too easy to judge a method by; they show that "
    "all works. `robustpolicy reproduce mnist` is the real comparison.",
    (
        Row("ce", "cross-entropy", RECIPES["digits-ce"], _MEASURES),
        Row("policy", "two stages (.75, 1.5)", RECIPES["digits-policy"], _MEASURES, against="ce"),
    ),
)
MNIST = Experiment(
    "mnist",
    "Table 3, MNIST rows, LeNet5",
    "",
    _rows(**_SHORT),
    reduced=("40 epochs for both, where the paper has 100 and 200",),
)
MNIST_FULL = Experiment("mnist-full", "Table 3, MNIST rows, LeNet5", "", _rows())
EQ4_ALONE = Experiment(
    "eq4-alone",
    "Eq. 4 alone from scratch, MNIST, LeNet5",
    "40 epochs. The paper has this on CIFAR-10 alone (Table 4: 10.00 %, does not train).",
    tuple(_eq4_alone(a, p) for a in ("sampled", "greedy") for p in (0.0, 1.0)),
)
