"""Checks of what an audit is given, before any work."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from robustpolicy.attacks import AttackedModel, Threat
from robustpolicy.attacks.losses import get_attack_loss
from robustpolicy.errors import UserError
from robustpolicy.evaluation.audit.case import BUDGETS


def check_arguments(
    x: Tensor,
    y: Tensor,
    threat: Threat,
    claim: float | None,
    train_data: tuple[Tensor, Tensor] | None,
    budget: str,
    batch_size: int,
    seed: int,
    indices: Tensor | None,
) -> float | None:
    """Check plain arguments; returns the claim as a number.

    Raises:
        UserError: naming the one that is wrong.
    """
    if budget not in BUDGETS:
        raise UserError(f"budget is {budget!r}; choose one of {', '.join(BUDGETS)}")
    if claim is not None:
        try:
            claim = float(claim)
        except (TypeError, ValueError):
            raise UserError(f"claim is {claim!r}; give a fraction in [0, 1]") from None
        if not 0 <= claim <= 1:
            raise UserError(f"claim is {claim:g}; give a fraction in [0, 1], not percent")
    for name, value in (("x", x), ("y", y)):
        if not isinstance(value, Tensor):
            raise UserError(f"{name} is a {type(value).__name__}; give a tensor")
    if len(x) == 0 or len(x) != len(y):
        raise UserError(f"{len(x)} inputs and {len(y)} labels; give at least one of each, as many")
    if batch_size < 1:
        raise UserError(f"batch_size is {batch_size}; give at least 1")
    if not 0 <= seed < 2**31:
        raise UserError(f"seed is {seed}; give a whole number in [0, 2**31)")
    if indices is not None and len(indices) != len(x):
        raise UserError(f"{len(indices)} indices for {len(x)} inputs; give one an input")
    threat.check_inputs(x)
    if train_data is not None:
        images, labels = train_data
        fits = len(images) == len(labels) > 0 and images.shape[1:] == x.shape[1:]
        if not fits or labels.dtype != torch.int64:
            raise UserError(
                f"train_data has images {tuple(images.shape)} and {len(labels)} labels "
                f"({labels.dtype}) for inputs {tuple(x.shape)}; give as many of both, int64 labels "
                "and images of the same shape"
            )
        if images.dtype != torch.uint8:
            threat.check_inputs(images)
    return claim


def check_others(
    model: AttackedModel,
    x: Tensor,
    y: Tensor,
    surrogates: Mapping[str, nn.Module],
    train_data: tuple[Tensor, Tensor] | None,
    train_loss: Any,
) -> None:
    """Check what must fit the model: surrogates, training labels, the training loss.

    Raises:
        UserError: naming the one that does not.
    """
    logits = model.logits(model.place(x[:2]))
    if train_data is not None:
        low, high = int(train_data[1].min()), int(train_data[1].max())
        if low < 0 or high >= model.classes:
            raise UserError(
                f"train_data has labels {low} to {high}; the model distinguishes {model.classes} "
                "classes, counted from 0"
            )
    for name, surrogate in surrogates.items():
        try:
            with AttackedModel(surrogate) as other:
                found = other.logits(other.place(x[:2]))
        except Exception as error:  # the user's code can raise anything
            detail = " ".join(str(error).split())[:150]
            raise UserError(f"surrogate {name} cannot take these inputs: {detail}") from None
        if found.shape != logits.shape:
            raise UserError(
                f"surrogate {name} gives {tuple(found.shape)} for two inputs, the model "
                f"{tuple(logits.shape)}; give a model of the same task"
            )
    if train_loss is not None:
        try:
            value = get_attack_loss(train_loss, model.classes)(logits, model.place(y[:2]))
            fine = isinstance(value, Tensor) and value.shape == logits.shape[:1]
        except UserError:
            raise
        except Exception as error:  # the user's code can raise anything
            detail = " ".join(str(error).split())[:150]
            raise UserError(f"train_loss failed on two samples: {detail}") from None
        if not fine:
            raise UserError("train_loss must give one value a sample, shape (B,)")
