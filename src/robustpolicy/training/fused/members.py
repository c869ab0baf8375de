"""Which recipes and models can train as one."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state, vmap

from robustpolicy.errors import UserError
from robustpolicy.training.recipe import CrossEntropy, NoAdversary, Recipe, Sgd, TwoStage, Watch

#: Fields of a recipe that each member has for itself.
OWN = ("seed", "loss", "optimizer", "epochs", "watch")
#: Those of them that are trees of fields themselves.
OWN_PARTS = ("loss", "optimizer", "watch")
#: What fused training carries out. A recipe with any other field set is refused, so that an
#: option that is new to recipes cannot be passed over in silence.
KNOWN: dict[type, tuple[str, ...]] = {
    Recipe: (*OWN, "dataset", "model", "adversary", "protocol", "batch_size", "augmentation",
             "normalize", "validation", "image_size"),
    CrossEntropy: (),
    TwoStage: ("penalty", "warmup_penalty", "reward", "threshold", "warmup", "actions",
               "warmup_actions", "switch_epoch"),
    Watch: ("watch_samples", "watch_epsilon", "watch_steps", "keep", "patience"),
    Sgd: ("learning_rate", "drops", "drop_factor", "momentum", "weight_decay", "schedule", "warm"),
}  # fmt: skip


def check_members(recipes: Sequence[Recipe], outputs: Sequence[Path]) -> None:
    """Check that these recipes can train as one, each in its own folder.

    Raises:
        UserError: otherwise, naming the field.
    """
    if not recipes:
        raise UserError("there are no recipes; give at least one")
    if len(recipes) != len(outputs):
        raise UserError(
            f"{len(recipes)} recipes and {len(outputs)} outputs; give each recipe one folder"
        )
    seen: set[Path] = set()
    for output in outputs:
        if output.resolve() in seen:
            raise UserError(f"{output} is given twice; give each recipe a folder of its own")
        seen.add(output.resolve())
    for recipe in recipes:
        _check_alone(recipe)
    for field in dataclasses.fields(Recipe):
        values = [getattr(recipe, field.name) for recipe in recipes]
        other = next((value for value in values if value != values[0]), None)
        if field.name not in OWN and other is not None:
            raise UserError(
                f"the recipes differ in {field.name} ({values[0]} and {other}); fused members may "
                f"differ in {', '.join(OWN)} only: train these apart"
            )


def check_model(model: nn.Module, name: str, images: Tensor) -> None:
    """Try the model as a pack of one in train mode.

    Args:
        model: from the recipe.
        name: its name in the recipe.
        images: a few inputs, float32, shape (B, C, H, W).

    Raises:
        UserError: the model draws random numbers or keeps running statistics as it trains.
    """
    params, _ = stack_module_state([model.train()])
    try:
        with torch.no_grad():
            vmap(lambda own: functional_call(model, own, (images,)))(params)
    except RuntimeError as error:
        detail = str(error).split(".")[0][:150]
        raise UserError(
            f"model {name} cannot be fused ({detail}): a layer such as Dropout or BatchNorm keeps "
            "a state that members would share; use train, or another model"
        ) from None


def _check_alone(recipe: Recipe) -> None:
    for part, kinds, names in (
        ("loss", (CrossEntropy, TwoStage), "cross-entropy or two-stage"),
        ("optimizer", (Sgd,), "sgd"),
        ("adversary", (NoAdversary,), "none"),
    ):
        value = getattr(recipe, part)
        if not isinstance(value, kinds):
            raise UserError(
                f"{part} is {value.name}; fused training takes {names}: use train for this one"
            )
    parts = {"": recipe, **{f"{name}.": getattr(recipe, name) for name in OWN_PARTS}}
    for prefix, owner in parts.items():
        for field in dataclasses.fields(owner):
            value = getattr(owner, field.name)
            if field.name not in KNOWN[type(owner)] and value != _default(field):
                raise UserError(
                    f"recipe field {prefix}{field.name} is {value}; fused training has no such "
                    "option: use train for this one"
                )


def _default(field: dataclasses.Field[Any]) -> Any:
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    return field.default
