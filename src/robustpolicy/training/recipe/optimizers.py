"""The optimisers that a recipe can name, and their learning rate."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from robustpolicy.errors import UserError
from robustpolicy.training.recipe.fields import check, check_types


@dataclass(frozen=True)
class _Optimizer:
    """The learning rate and what happens to gradients, whatever the optimiser."""

    learning_rate: float = 0.1
    """Learning rate, once it is warm."""
    drops: tuple[int, ...] = ()
    """The learning rate drops after these epochs."""
    drop_factor: float = 0.1
    """The learning rate is multiplied by this at each drop."""
    schedule: Literal["steps", "cosine"] = "steps"
    """steps: constant between the drops. cosine: falls along half a cosine to 0, epoch by epoch,
    without drops."""
    warm: int = 0
    """The learning rate rises linearly over this many epochs before it is whole."""
    clip_norm: float = 0.0
    """Gradients are scaled down to this l2 norm where theirs is greater; 0: never."""
    weight_decay: float = 0.0
    """Decay of the weights: with sgd an l2 penalty in the gradient, with adamw apart from it."""

    def __post_init__(self) -> None:
        check_types(self)
        whole = isinstance(self.drops, tuple) and all(type(drop) is int for drop in self.drops)
        if not whole:
            raise UserError(f"drops is {self.drops!r}; give whole epochs, such as [50, 150]")
        check(self, "learning_rate", 0 < self.learning_rate < 1e30, "a number > 0, such as 0.1")
        check(self, "drop_factor", 0 < self.drop_factor <= 1, "a number in (0, 1]")
        check(self, "weight_decay", 0 <= self.weight_decay < math.inf, "a number >= 0")
        check(self, "clip_norm", 0 <= self.clip_norm < math.inf, "a norm > 0, or 0 for none")
        check(self, "warm", self.warm >= 0, "at least 0")
        rising = all(a < b for a, b in zip((0, *self.drops), self.drops, strict=False))
        check(self, "drops", rising, "rising epochs, such as 50 150")
        if self.schedule == "cosine" and self.drops:
            raise UserError(
                "a cosine schedule has no drops; leave --drops out, or give --schedule steps"
            )

    def rate(self, epoch: int, epochs: int) -> float:
        """Learning rate of an epoch, counted from 0, of so many."""
        rate = self.learning_rate * min(1.0, (epoch + 1) / (self.warm + 1))
        if self.schedule == "cosine":
            # Measured from where it is warm; the last epoch still trains.
            whole = max(1, epochs - self.warm)
            rate *= (1 + math.cos(math.pi * max(0, epoch - self.warm) / whole)) / 2
        rate *= self.drop_factor ** sum(epoch >= drop for drop in self.drops)
        return float(f"{rate:.12g}")  # 0.01, not 0.010000000000000002


@dataclass(frozen=True)
class Sgd(_Optimizer):
    """Stochastic gradient descent."""

    momentum: float = 0.0
    """Momentum."""
    nesterov: bool = False
    """Nesterov's form of momentum."""

    name: ClassVar[str] = "sgd"

    def __post_init__(self) -> None:
        super().__post_init__()
        check(self, "momentum", 0 <= self.momentum < 1, "a number in [0, 1)")
        if self.nesterov and self.momentum == 0:
            raise UserError("nesterov needs momentum; give --momentum 0.9")


@dataclass(frozen=True)
class AdamW(_Optimizer):
    """Adam with decoupled weight decay (Loshchilov & Hutter 2019), for transformers."""

    learning_rate: float = 0.001
    """Learning rate, once it is warm."""
    beta1: float = 0.9
    """Decay of the mean of gradients."""
    beta2: float = 0.999
    """Decay of the mean of squared gradients."""

    name: ClassVar[str] = "adamw"

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("beta1", "beta2"):
            check(self, name, 0 <= getattr(self, name) < 1, "a number in [0, 1)")


#: Every optimiser that a recipe can name.
OPTIMIZERS: tuple[Any, ...] = (Sgd, AdamW)
