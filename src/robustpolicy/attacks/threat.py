"""Threat models: what an adversary may do to an input."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from robustpolicy.errors import UserError


@dataclass(frozen=True)
class Threat:
    """An l-infinity ball of radius epsilon around each input, cut to the input range.

    Attributes:
        epsilon: radius, in units of the input range.
        low: least input value.
        high: greatest input value.
    """

    epsilon: float
    low: float = 0.0
    high: float = 1.0

    norm: ClassVar[str] = "Linf"
    #: Rounding error that the ball check forgives, in units of the range (float32 has 6e-8).
    TOLERANCE: ClassVar[float] = 1e-6

    def __post_init__(self) -> None:
        if not self.low < self.high:
            raise UserError(f"the input range [{self.low:g}, {self.high:g}] is empty")
        if not 0 < self.epsilon < float("inf"):
            raise UserError(
                f"epsilon is {self.epsilon:g}; give a radius > 0, such as 0.1 or 0.03137"
            )

    def project(self, x_adv: Tensor, x: Tensor) -> Tensor:
        """Nearest point to ``x_adv`` inside the ball around ``x`` and inside the range."""
        x_adv = torch.maximum(torch.minimum(x_adv, x + self.epsilon), x - self.epsilon)
        return x_adv.clamp(self.low, self.high)

    def check_inputs(self, x: Tensor) -> None:
        """Check that inputs are finite and inside the range.

        Raises:
            UserError: otherwise, with the range that they span.
        """
        low, high = float(x.min()), float(x.max())
        if not (low >= self.low and high <= self.high):  # NaN fails this too
            raise UserError(
                f"inputs span [{low:g}, {high:g}], outside the declared range "
                f"[{self.low:g}, {self.high:g}]; scale them, or declare their range"
            )

    def verify(self, x: Tensor, x_adv: Tensor) -> Tensor:
        """Which adversarial examples obey the threat model: finite, in the ball, in the range.

        Returns:
            Flags, bool, shape (B,).
        """
        slack = self.TOLERANCE * (self.high - self.low)
        distance = (x_adv - x).abs().flatten(1).amax(1)
        inside = (x_adv >= self.low) & (x_adv <= self.high)
        return (distance <= self.epsilon + slack) & inside.flatten(1).all(1)
