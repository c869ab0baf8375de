"""Tables 1 and 2, and Figure 3: two stages over a grid of penalties."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from robustpolicy.experiments.paper.experiment import Experiment, Measure, Row
from robustpolicy.experiments.paper.measures import plain_measures, strong_measures
from robustpolicy.experiments.paper.printed import PENALTIES, TABLE_1, TABLE_2
from robustpolicy.training.recipe import Recipe, TwoStage
from robustpolicy.training.recipes import RECIPES

#: lambda_2 of the three panels of Figure 3.
FIGURE_3 = (0.1, 0.5, 1.5)


def _cell(
    base: Recipe,
    first: float,
    second: float,
    measures: tuple[Measure, ...],
    paper: Mapping[str, str],
) -> Row:
    loss = TwoStage(penalty=second, warmup_penalty=first)
    return Row(
        f"policy-{first:g}-{second:g}",
        f"two stages ({first:g}, {second:g})",
        dataclasses.replace(base, loss=loss, protocol="paper"),
        measures,
        paper,
        (first, second),
    )


def _grid(
    base: str, epsilon: float, printed: Mapping[tuple[float, float], Mapping[str, str]]
) -> tuple[Row, ...]:
    measures = (*plain_measures(epsilon), *strong_measures(epsilon))
    return tuple(
        _cell(RECIPES[base], first, second, measures, printed[first, second])
        for first in PENALTIES
        for second in PENALTIES
    )


TABLE1 = Experiment(
    "table1",
    "Table 1, CIFAR-10, VGG13: two stages over lambda_1 and lambda_2",
    "",
    _grid("cifar10-policy", 0.04, TABLE_1),
    runs=5,
    grid=True,
)
TABLE2 = Experiment(
    "table2",
    "Table 2, MNIST, LeNet5: two stages over lambda_1 and lambda_2",
    "",
    _grid("mnist-policy", 0.1, TABLE_2),
    runs=3,
    grid=True,
)
FIGURE3 = Experiment(
    "figure3",
    "Figure 3, CIFAR-10, VGG13: training loss at lambda_2 of .1, .5 and 1.5",
    "",
    tuple(
        _cell(RECIPES["cifar10-policy"], first, second, (), {})
        for second in FIGURE_3
        for first in PENALTIES
    ),
    grid=True,
    figure=True,
)
