"""Fast gradient sign method (Goodfellow et al. 2015; the paper's Eq. 29)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn

from robustpolicy.attacks.losses import AttackLoss, get_attack_loss
from robustpolicy.attacks.model import AttackedModel
from robustpolicy.attacks.threat import Threat


@dataclass(frozen=True)
class FGSM:
    """One step of length epsilon along the sign of the input gradient, cut to the range.

    Attributes:
        loss: what it raises: a name of ``ATTACK_LOSSES`` or a function (logits, labels) -> (B,).
    """

    loss: str | AttackLoss = "ce"

    name: ClassVar[str] = "fgsm"

    def __post_init__(self) -> None:
        get_attack_loss(self.loss)

    def __call__(
        self,
        model: nn.Module | AttackedModel,
        x: Tensor,
        y: Tensor,
        threat: Threat,
        *,
        seed: int = 0,
        indices: Tensor | None = None,
    ) -> Tensor:
        """Adversarial examples, the shape of ``x``.

        Args:
            model: classifier of inputs in the threat's range.
            x: inputs, shape (B, ...).
            y: labels, int64, shape (B,).
            threat: ball and range.
            seed: not used: there is no randomness.
            indices: not used.
        """
        with AttackedModel.of(model) as attacked:
            x = x.clone()  # an inference tensor cannot take part in autograd
            gradient, _, _ = attacked.gradient(x, y, get_attack_loss(self.loss))
            return threat.project(x + threat.epsilon * threat.steepest(gradient), x)
