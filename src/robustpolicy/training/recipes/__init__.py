"""The named recipes."""

from __future__ import annotations

from robustpolicy.errors import UserError
from robustpolicy.training.recipe import Recipe
from robustpolicy.training.recipes.adversarial import ADVERSARIAL
from robustpolicy.training.recipes.plain import PLAIN

#: name -> recipe.
RECIPES: dict[str, Recipe] = {**PLAIN, **ADVERSARIAL}


def get_recipe(name: str) -> Recipe:
    """The recipe of this name.

    Raises:
        UserError: unknown; lists the known ones.
    """
    if name not in RECIPES:
        raise UserError(f"unknown recipe {name!r}; choose one of {', '.join(RECIPES)}")
    return RECIPES[name]


__all__ = ["RECIPES", "get_recipe"]
