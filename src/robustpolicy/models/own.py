"""Models of one's own, named ``module:callable``."""

from __future__ import annotations

import copy

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from robustpolicy.errors import UserError
from robustpolicy.importing import call, load

_RETURNS = "an nn.Module"


def build_own(reference: str, num_classes: int) -> nn.Module:
    """Build a model of the user's.

    The callable gets the number of classes if it has a parameter ``num_classes`` or any positional
    one without a default. Of a model that is there already, a copy is taken.

    Args:
        reference: ``module:callable``; its code is run.
        num_classes: of the data set.

    Raises:
        UserError: it cannot be imported or fails, or does not return an nn.Module.
    """
    with torch.random.fork_rng([]):  # the first import must leave the weights' generator alone
        found = load(reference, _RETURNS)
    if isinstance(found, nn.Module):
        model = copy.deepcopy(found)
    else:
        model = call(reference, found, _RETURNS, num_classes)
    if not isinstance(model, nn.Module):
        raise UserError(f"{reference} returned {type(model).__name__}; it must return {_RETURNS}")
    if any(is_lazy(parameter) for parameter in model.parameters()):
        raise UserError(
            f"{reference} returned a model with lazy layers, which have no shapes yet; call it "
            "once on a batch of images before you return it"
        )
    return model
