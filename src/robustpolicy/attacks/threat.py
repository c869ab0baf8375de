"""Threat models: what an adversary may do to an input."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from robustpolicy.errors import UserError

NORMS = ("Linf", "L2")


@dataclass(frozen=True)
class Threat:
    """A ball of radius epsilon around each input, cut to the input range.

    Attributes:
        epsilon: radius, in units of the input range.
        low: least input value.
        high: greatest input value.
        norm: ``"Linf"`` or ``"L2"``.
    """

    epsilon: float
    low: float = 0.0
    high: float = 1.0
    norm: Literal["Linf", "L2"] = "Linf"

    #: Rounding error that the ball check forgives, in units of the range (float32 has 6e-8).
    TOLERANCE: ClassVar[float] = 1e-6

    def __post_init__(self) -> None:
        if self.norm not in NORMS:
            raise UserError(f"norm is {self.norm!r}; choose one of {', '.join(NORMS)}")
        if not -float("inf") < self.low < self.high < float("inf"):
            raise UserError(
                f"the input range [{self.low:g}, {self.high:g}] is empty or endless; give two "
                "finite numbers, the lower first"
            )
        if not 0 < self.epsilon < float("inf"):
            raise UserError(
                f"epsilon is {self.epsilon:g}; give a radius > 0, such as 0.1 or 0.03137"
            )

    def size(self, delta: Tensor) -> Tensor:
        """Norm of each perturbation, shape (B, 1, ...), ready to scale its sample."""
        flat = delta.flatten(1)
        sizes = flat.abs().amax(1) if self.norm == "Linf" else flat.square().sum(1).sqrt()
        return sizes.view(-1, *[1] * (delta.ndim - 1))

    def unit(self, delta: Tensor) -> Tensor:
        """Each perturbation scaled to norm 1; zero stays zero."""
        return delta / (self.size(delta) + 1e-12)

    def steepest(self, gradient: Tensor) -> Tensor:
        """Direction of norm 1 along which a linear function rises fastest."""
        return gradient.sign() if self.norm == "Linf" else self.unit(gradient)

    def project(self, x_adv: Tensor, x: Tensor) -> Tensor:
        """Bring ``x_adv`` into the ball around ``x`` and into the range."""
        if self.norm == "Linf":
            x_adv = torch.maximum(torch.minimum(x_adv, x + self.epsilon), x - self.epsilon)
        else:
            delta = x_adv - x
            size = self.size(delta)
            x_adv = x + delta / (size + 1e-12) * size.clamp(max=self.epsilon)
        return x_adv.clamp(self.low, self.high)

    def check_inputs(self, x: Tensor) -> None:
        """Check that inputs are float32 or float64, finite and inside the range.

        Raises:
            UserError: otherwise, with the range that they span.
        """
        if x.dtype not in (torch.float32, torch.float64):
            raise UserError(
                f"inputs are {x.dtype}; give float32 (attacks compute in it; a ball of "
                "bfloat16 numbers is a coarse one)"
            )
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
        slack = self.TOLERANCE * (self.high - self.low) * max(1.0, self.epsilon)
        distance = self.size(x_adv - x).flatten()
        inside = (x_adv >= self.low) & (x_adv <= self.high)
        return (distance <= self.epsilon + slack) & inside.flatten(1).all(1)
