"""Checks of what a loss is given. The cheap ones always run, the others on request."""

from __future__ import annotations

import torch
from torch import Tensor

from robustpolicy.errors import UserError

#: A reward or a penalty: one number, or one per class, shape (C,), indexed by the true class.
Amount = float | Tensor

_INF = float("inf")


def check_shapes(logits: Tensor, labels: Tensor | None) -> None:
    """Check ranks, sizes and dtypes; no look at the values, so it never waits for a GPU.

    Raises:
        UserError: logits not floating or not (B, C) with C >= 2; labels not int64 of shape (B,).
    """
    if logits.ndim != 2 or logits.shape[1] < 2:
        raise UserError(
            f"logits have shape {tuple(logits.shape)}; give (B, C) with C >= 2 classes "
            "(one logit of a binary classifier q becomes torch.stack([0 * q, q], 1))"
        )
    if not logits.is_floating_point():
        raise UserError(f"logits are {logits.dtype}; give floating-point logits, not class indices")
    if labels is None:
        return
    if labels.dtype != torch.int64:
        hint = "one-hot labels become labels.argmax(1)" if labels.ndim == 2 else "use labels.long()"
        raise UserError(f"labels are {labels.dtype}; give torch.int64 class indices ({hint})")
    if labels.shape != logits.shape[:1]:
        raise UserError(
            f"labels have shape {tuple(labels.shape)} for logits {tuple(logits.shape)}; "
            f"give one class index a sample, shape ({logits.shape[0]},)"
        )


def check_amounts(reward: Amount, penalty: Amount, classes: int | None = None) -> None:
    """Check that rewards and penalties are finite, not negative, and never both zero (Eq. 3).

    Amounts per class are read, so on a GPU this waits for it; a compiled loss skips that.

    Raises:
        UserError: otherwise, naming the value.
    """
    numbers = type(reward) in (int, float) and type(penalty) in (int, float)
    if numbers and 0 <= reward < _INF and 0 <= penalty < _INF and reward + penalty > 0:
        return  # the way of every training step: one line, for speed
    sizes = set()
    for name, amount in (("reward", reward), ("penalty", penalty)):
        if isinstance(amount, Tensor):
            size = amount.numel() if amount.ndim else None
            if size is not None:
                sizes.add(size)
            if amount.ndim > 1 or (size and classes and size != classes) or len(sizes) > 1:
                raise UserError(
                    f"{name} has shape {tuple(amount.shape)} for {classes or 'C'} classes; give a "
                    f"number or shape ({classes or 'C'},)"
                )
            if torch.compiler.is_compiling():
                return
            bad = bool((~torch.isfinite(amount) | (amount < 0)).any())
        elif isinstance(amount, (int, float)):
            bad = not 0 <= amount < _INF
        else:
            raise UserError(
                f"{name} is a {type(amount).__name__}; give a number, or a tensor of one number a "
                "class"
            )
        if bad:
            raise UserError(
                f"{name} is {_show(amount)}; give a finite number >= 0 "
                "(the penalty is a magnitude: a wrong action's reward is -penalty)"
            )
    if bool(((torch.as_tensor(reward) == 0) & (torch.as_tensor(penalty) == 0)).any()):
        raise UserError(
            f"reward {_show(reward)} and penalty {_show(penalty)} are both zero (for some class), "
            "which gives no gradient; make at least one of them positive"
        )


def check_values(logits: Tensor, labels: Tensor | None) -> None:
    """Check every value: finite logits, labels in [0, C). Waits for the device.

    Raises:
        UserError: naming how many are bad and the first of them.
    """
    bad = ~torch.isfinite(logits).all(dim=1)
    if bool(bad.any()):
        first = int(bad.nonzero()[0, 0])
        raise UserError(
            f"{int(bad.sum())} of {len(logits)} samples have NaN or inf logits, the first at "
            f"index {first}; lower the learning rate or look at that input"
        )
    if labels is None:
        return
    bad = (labels < 0) | (labels >= logits.shape[1])
    if bool(bad.any()):
        first = int(bad.nonzero()[0, 0])
        raise UserError(
            f"{int(bad.sum())} of {len(labels)} labels lie outside [0, {logits.shape[1] - 1}], the "
            f"first is {int(labels[first])} at index {first}; labels count classes from 0"
        )


def _show(amount: Amount) -> str:
    return str(amount.tolist()) if isinstance(amount, Tensor) else f"{amount:g}"
