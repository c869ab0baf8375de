"""What is measured on the watched split after each epoch, and what it decides."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from robustpolicy.training.recipe.fields import check, check_types


@dataclass(frozen=True)
class Watch:
    """Robust accuracy after each epoch, which weights count, and early stopping."""

    watch_samples: int = 0
    """Watched samples that PGD attacks after each epoch, their first iterates included; 0: none."""
    watch_epsilon: float = 0.1
    """Radius of that attack's l-infinity ball."""
    watch_steps: int = 10
    """Its steps, each 2.5 epsilon / steps long."""
    keep: Literal["last", "best"] = "last"
    """Which weights the run stands for: those of the last epoch, or of the one with the best
    robust accuracy (without watch_samples: accuracy). Both are in the run folder."""
    patience: int = 0
    """Training ends after this many epochs without a better one; 0: never."""

    def __post_init__(self) -> None:
        check_types(self)
        check(self, "watch_samples", self.watch_samples >= 0, "at least 0")
        fine = 0 < self.watch_epsilon < float("inf")
        check(self, "watch_epsilon", fine, "a radius > 0, such as 0.1")
        check(self, "watch_steps", self.watch_steps >= 1, "at least 1")
        check(self, "patience", self.patience >= 0, "at least 0")
