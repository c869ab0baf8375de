"""Recipes: everything that decides the outcome of one training run, as data.

No torch here: the command line shows recipes without importing it.
"""

from robustpolicy.training.recipe.adversaries import (
    ADVERSARIES,
    MadryAT,
    Mart,
    NoAdversary,
    Trades,
)
from robustpolicy.training.recipe.losses import (
    GCE,
    LOSSES,
    MMC,
    PC,
    Actions,
    CrossEntropy,
    TwoStage,
)
from robustpolicy.training.recipe.optimizers import OPTIMIZERS, AdamW, Sgd
from robustpolicy.training.recipe.recipe import Recipe, load_recipe
from robustpolicy.training.recipe.unlabelled import Unlabelled
from robustpolicy.training.recipe.watch import Watch

__all__ = [
    "ADVERSARIES",
    "GCE",
    "LOSSES",
    "MMC",
    "OPTIMIZERS",
    "PC",
    "Actions",
    "AdamW",
    "CrossEntropy",
    "MadryAT",
    "Mart",
    "NoAdversary",
    "Recipe",
    "Sgd",
    "Trades",
    "TwoStage",
    "Unlabelled",
    "Watch",
    "load_recipe",
]
