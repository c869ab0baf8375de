"""What attacks maximise: pure functions ``(logits, labels) -> (B,)``, high where the model errs.

The targeted forms take the class to steer to as a third argument. A new loss is one function and
one line in its registry.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from robustpolicy.errors import UserError

AttackLoss = Callable[[Tensor, Tensor], Tensor]
TargetedLoss = Callable[[Tensor, Tensor, Tensor], Tensor]


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy of each sample, shape (B,)."""
    return F.cross_entropy(logits, labels, reduction="none")


def margin(logits: Tensor, labels: Tensor) -> Tensor:
    """Greatest wrong logit minus the right one, shape (B,) (Carlini & Wagner 2017)."""
    index = labels[:, None]
    right = logits.gather(1, index)[:, 0]
    return logits.scatter(1, index, float("-inf")).amax(1) - right


def dlr(logits: Tensor, labels: Tensor) -> Tensor:
    """Difference of logits ratio, shape (B,) (Croce & Hein 2020, Eq. 6); needs 3 classes.

    The margin over the distance between the first and the third greatest logit: blind to shifts
    and to positive scales of the logits.
    """
    first, _, third = logits.topk(3, dim=1).values.unbind(1)
    return margin(logits, labels) / (first - third + 1e-12)


def rescaled_cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy of logits scaled to a range of 1, shape (B,).

    Where logits are so large that cross-entropy's gradient is 0 in float32, this one's is not.
    """
    spread = (logits.amax(1, keepdim=True) - logits.amin(1, keepdim=True)).detach()
    return cross_entropy(logits / spread.clamp(min=1e-12), labels)


def targeted_margin(logits: Tensor, labels: Tensor, targets: Tensor) -> Tensor:
    """Target's logit minus the right one, shape (B,)."""
    return (logits.gather(1, targets[:, None]) - logits.gather(1, labels[:, None]))[:, 0]


def targeted_dlr(logits: Tensor, labels: Tensor, targets: Tensor) -> Tensor:
    """Targeted DLR, shape (B,) (Croce & Hein 2020, Eq. 7); needs 4 classes."""
    first, _, third, fourth = logits.topk(4, dim=1).values.unbind(1)
    return targeted_margin(logits, labels, targets) / (first - 0.5 * (third + fourth) + 1e-12)


#: name -> loss.
ATTACK_LOSSES: dict[str, AttackLoss] = {
    "ce": cross_entropy,
    "margin": margin,
    "dlr": dlr,
    "rescaled-ce": rescaled_cross_entropy,
}


def get_attack_loss(loss: str | AttackLoss, classes: int | None = None) -> AttackLoss:
    """The loss of a name, or the callable itself.

    With fewer than 3 classes, ``"dlr"`` has no third logit and becomes ``"margin"``.

    Raises:
        UserError: an unknown name; lists the known ones.
    """
    if callable(loss):
        return loss
    if loss not in ATTACK_LOSSES:
        raise UserError(
            f"unknown attack loss {loss!r}; choose one of {', '.join(ATTACK_LOSSES)}, or give a "
            "function (logits, labels) -> loss per sample"
        )
    if loss == "dlr" and classes is not None and classes < 3:
        return margin
    return ATTACK_LOSSES[loss]


def get_targeted_loss(classes: int) -> TargetedLoss:
    """Targeted DLR; with fewer than 4 classes it has no fourth logit, so the margin instead."""
    return targeted_dlr if classes >= 4 else targeted_margin


def runner_up(logits: Tensor, rank: int) -> Tensor:
    """The class of the given rank by logit, 2 being the second greatest; int64, shape (B,)."""
    return torch.sort(logits, dim=1).indices[:, -rank]
