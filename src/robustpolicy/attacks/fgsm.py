"""Fast gradient sign method (Goodfellow et al. 2015; the paper's Eq. 29)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from robustpolicy.attacks.attack import Attack
from robustpolicy.attacks.losses import AttackLoss, get_attack_loss
from robustpolicy.attacks.model import AttackedModel
from robustpolicy.attacks.threat import Threat


@dataclass(frozen=True)
class FGSM(Attack):
    """One step of length epsilon along the sign of the input gradient, cut to the range.

    Attributes:
        loss: what it raises: a name of ``ATTACK_LOSSES`` or a function (logits, labels) -> (B,).
    """

    loss: str | AttackLoss = "ce"

    name: ClassVar[str] = "fgsm"

    def __post_init__(self) -> None:
        get_attack_loss(self.loss)

    def _run(
        self,
        model: AttackedModel,
        x: Tensor,
        y: Tensor,
        threat: Threat,
        seed: int,
        indices: Tensor,
    ) -> Tensor:
        loss = get_attack_loss(self.loss, model.classes)
        gradient, _, _ = model.gradient(x, y, loss)
        return threat.project(x + threat.epsilon * threat.steepest(gradient), x)
