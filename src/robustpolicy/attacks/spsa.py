"""SPSA (Uesato et al. 2018): gradients estimated from differences, for models without any."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from robustpolicy.attacks.attack import Attack
from robustpolicy.attacks.losses import AttackLoss, get_attack_loss
from robustpolicy.attacks.model import AttackedModel
from robustpolicy.attacks.threat import Threat
from robustpolicy.errors import UserError
from robustpolicy.randomness import derive_seed

# Adam's constants, as in the paper's experiments.
BETA1, BETA2, TINY = 0.9, 0.999, 1e-8


@dataclass(frozen=True)
class SPSA(Attack):
    """Adam on the margin, its gradient estimated along random directions of signs.

    The directions are drawn once a step for all samples, from the seed alone, so a sample that
    leaves changes nothing for the others.

    Attributes:
        steps: steps of Adam.
        directions: directions a step; each costs two queries.
        delta: half the distance of the two queries, in units of the input range.
        step_size: step of Adam, in units of the input range.
        loss: what it raises: a name of ``ATTACK_LOSSES`` or a function (logits, labels) -> (B,).
    """

    steps: int = 100
    directions: int = 64
    delta: float = 0.01
    step_size: float = 0.01
    loss: str | AttackLoss = "margin"

    name: ClassVar[str] = "spsa"

    def __post_init__(self) -> None:
        for name in ("steps", "directions"):
            value = getattr(self, name)
            if type(value) is not int or value < 1:
                raise UserError(f"{name} is {value}; give a whole number, at least 1")
        for name in ("delta", "step_size"):
            if not 0 < getattr(self, name) < float("inf"):
                raise UserError(f"{name} is {getattr(self, name)}; give a length > 0, such as 0.01")
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
        draws = torch.Generator().manual_seed(derive_seed(seed, self.name))
        loss = get_attack_loss(self.loss, model.classes)
        result = x.clone()
        left = (~model.wrong(model.logits(x), y)).nonzero()[:, 0]
        original, current, labels = x[left], x[left], y[left]
        mean, square = torch.zeros_like(current), torch.zeros_like(current)
        for step in range(1, self.steps + 1):
            if len(left) == 0:
                break
            gradient = self._estimate(model, current, labels, loss, draws)
            mean = BETA1 * mean + (1 - BETA1) * gradient
            square = BETA2 * square + (1 - BETA2) * gradient.square()
            ratio = mean / (1 - BETA1**step)
            ratio = ratio / ((square / (1 - BETA2**step)).sqrt() + TINY)
            current = threat.project(current + self.step_size * ratio, original)
            result[left] = current
            keep = ~model.wrong(model.logits(current), labels)
            if not bool(keep.all()):
                left, original, current = left[keep], original[keep], current[keep]
                labels, mean, square = labels[keep], mean[keep], square[keep]
            model.report(step / self.steps)
        return result

    def _estimate(
        self,
        model: AttackedModel,
        x: Tensor,
        y: Tensor,
        loss: AttackLoss,
        draws: torch.Generator,
    ) -> Tensor:
        """Mean over directions v of (f(x + delta v) - f(x - delta v)) / (2 delta) v."""
        total = torch.zeros_like(x)
        for _ in range(self.directions):
            signs = (2.0 * torch.randint(2, x.shape[1:], generator=draws) - 1).to(x)
            above = loss(model.logits(x + self.delta * signs), y)
            below = loss(model.logits(x - self.delta * signs), y)
            slope = (above - below) / (2 * self.delta)
            total += slope.view(-1, *[1] * (x.ndim - 1)) * signs
        return total / self.directions
