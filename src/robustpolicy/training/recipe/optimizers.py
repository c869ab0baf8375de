"""The optimisers that a recipe can name, and their learning rate."""

from __future__ import annotations

from dataclasses import dataclass

from robustpolicy.errors import UserError
from robustpolicy.training.recipe.fields import check, check_types


@dataclass(frozen=True)
class Sgd:
    """Stochastic gradient descent with steps down in the learning rate."""

    learning_rate: float = 0.1
    """Learning rate of the first epoch."""
    drops: tuple[int, ...] = ()
    """The learning rate drops after these epochs."""
    drop_factor: float = 0.1
    """The learning rate is multiplied by this at each drop."""
    momentum: float = 0.0
    """Momentum."""
    weight_decay: float = 0.0
    """L2 penalty added to the gradient."""

    def __post_init__(self) -> None:
        check_types(self)
        if not all(type(drop) is int for drop in self.drops):
            raise UserError(f"drops is {self.drops}; give whole epochs, such as 50 150")
        check(self, "learning_rate", 0 < self.learning_rate < 1e30, "a number > 0, such as 0.1")
        check(self, "drop_factor", 0 < self.drop_factor <= 1, "a number in (0, 1]")
        check(self, "momentum", 0 <= self.momentum < 1, "a number in [0, 1)")
        check(self, "weight_decay", 0 <= self.weight_decay < float("inf"), "a number >= 0")
        rising = all(a < b for a, b in zip((0, *self.drops), self.drops, strict=False))
        check(self, "drops", rising, "rising epochs, such as 50 150")

    def rate(self, epoch: int) -> float:
        """Learning rate of an epoch, counted from 0."""
        rate = self.learning_rate * self.drop_factor ** sum(epoch >= drop for drop in self.drops)
        return float(f"{rate:.12g}")  # 0.01, not 0.010000000000000002
