"""The measures that tables share, and the model on which transferred examples are crafted."""

from __future__ import annotations

import dataclasses

from robustpolicy.experiments.paper.experiment import STRONG_SAMPLES, Measure
from robustpolicy.training.recipe import Recipe
from robustpolicy.training.recipes import RECIPES

#: The paper's PGD on all data sets.
_PGD_40 = (("steps", 40), ("step_size", 0.01))
#: Seed of the surrogate, far from those of the cells.
SURROGATE_SEED = 1000


def clean(epsilon: float) -> Measure:
    """Accuracy without an attack."""
    return Measure("clean", "clean", "clean", epsilon)


def plain_measures(epsilon: float) -> tuple[Measure, ...]:
    """What the paper measures: clean, FGSM, PGD with 40 steps of .01."""
    return (
        clean(epsilon),
        Measure("fgsm", "FGSM", "fgsm", epsilon),
        Measure("pgd", "PGD-40", "pgd", epsilon, _PGD_40),
    )


def strong_measures(epsilon: float) -> tuple[Measure, ...]:
    """What it does not measure: AutoAttack, and examples transferred from another model."""
    return (
        Measure("autoattack", "AutoAttack", "autoattack", epsilon, samples=STRONG_SAMPLES),
        Measure("transfer", "transfer", "transfer", epsilon, samples=STRONG_SAMPLES),
    )


def surrogate_of(recipe: Recipe) -> Recipe:
    """The model on which examples for this recipe's model are crafted.

    Cross-entropy on the same data set and architecture, from another seed, over its own epochs or
    as few as the recipe has.
    """
    base = dataclasses.replace(
        RECIPES[f"{recipe.dataset}-ce"], model=recipe.model, protocol="paper", seed=SURROGATE_SEED
    )
    return base.with_epochs(recipe.epochs) if recipe.epochs < base.epochs else base
