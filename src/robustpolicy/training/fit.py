"""Whether a model and a data set fit each other, found out before anything is written."""

from __future__ import annotations

import torch
from torch import Tensor

from robustpolicy.data import Source, Split, is_own, to_float
from robustpolicy.errors import UserError
from robustpolicy.importing import describe_error, is_reference
from robustpolicy.training.recipe import Recipe
from robustpolicy.training.run import build_recipe_model


def check_fit(recipe: Recipe, dataset: Source, train: Split) -> None:
    """Try the model on two images, in both modes and in the layout of the training.

    Where the last batch of an epoch has one image alone, try one: some models cannot take that.

    Args:
        recipe: names the model.
        dataset: classes and statistics.
        train: what it trains on.

    Raises:
        UserError: an unknown model, one that cannot take these images, or outputs that are not
            one logit a class.
    """
    own = is_reference(recipe.model)
    # The user's code can raise anything; in ours, all but a misfit of shapes is a fault.
    misfit = Exception if own else RuntimeError
    images = train.images[: 1 if len(train) % recipe.batch_size == 1 else 2]
    with torch.random.fork_rng(), torch.inference_mode():
        model = build_recipe_model(recipe, dataset)
        model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        if not any(parameter.requires_grad for parameter in model.parameters()):
            raise UserError(f"model {recipe.model} has no parameters to train")
        for training in (True, False):
            try:
                logits = model.train(training)(to_float(images))
            except misfit as error:
                detail = describe_error(error) if own else str(error).splitlines()[0]
                raise UserError(
                    f"model {recipe.model} cannot take images of {recipe.dataset}, shape "
                    f"{dataset.shape}: {detail}; {_mend(recipe, detail)}"
                ) from None
            _check_logits(recipe, len(dataset.classes), logits, len(images))


def _mend(recipe: Recipe, detail: str) -> str:
    if "view size is not compatible" in detail:  # images come channels-last
        return "use .reshape or .flatten(1) in place of .view"
    if "more than 1 value per channel" in detail:
        return "the last batch of an epoch has one image: choose another --batch-size"
    if is_own(recipe.dataset) and not is_reference(recipe.model):
        return "choose another --model, or scale the images of a folder with --image-size"
    return "choose another --model"


def _check_logits(recipe: Recipe, classes: int, logits: object, count: int) -> None:
    if not isinstance(logits, Tensor):
        raise UserError(
            f"model {recipe.model} returns {type(logits).__name__}; it must return logits, one for "
            "each class, in train and in eval mode"
        )
    if logits.shape != (count, classes):
        raise UserError(
            f"model {recipe.model} returns shape {tuple(logits.shape)} for a batch of {count}, but "
            f"{recipe.dataset} has {classes} classes; it must return {(count, classes)}: let its "
            "function take num_classes"
        )
