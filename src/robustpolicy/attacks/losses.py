"""What attacks maximise: pure functions ``(logits, labels) -> (B,)``, high where the model errs."""

from __future__ import annotations

from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor

from robustpolicy.errors import UserError

AttackLoss = Callable[[Tensor, Tensor], Tensor]


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy of each sample, shape (B,)."""
    return F.cross_entropy(logits, labels, reduction="none")


def margin(logits: Tensor, labels: Tensor) -> Tensor:
    """Greatest wrong logit minus the right one, shape (B,) (Carlini & Wagner 2017)."""
    index = labels[:, None]
    right = logits.gather(1, index)[:, 0]
    return logits.scatter(1, index, float("-inf")).amax(1) - right


#: name -> loss.
ATTACK_LOSSES: dict[str, AttackLoss] = {"ce": cross_entropy, "margin": margin}


def get_attack_loss(loss: str | AttackLoss) -> AttackLoss:
    """The loss of a name, or the callable itself.

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
    return ATTACK_LOSSES[loss]
