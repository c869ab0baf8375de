"""What a training tells those who watch it; the command line draws it, a script may ignore it."""

from __future__ import annotations

import warnings
from typing import Any

from robustpolicy.training.recipe import Recipe


class Monitor:
    """Receives the events of a training. This one is silent but for warnings."""

    def start(self, recipe: Recipe, epoch: int, steps: int) -> None:
        """Training begins, or goes on after ``epoch`` epochs, with ``steps`` steps an epoch."""

    def step(self) -> None:
        """A step has been made."""

    def epoch(self, record: dict[str, Any]) -> None:
        """An epoch is complete; ``record`` is its line of history.jsonl."""

    def warn(self, message: str) -> None:
        """Something that the user should know, and that stops nothing."""
        warnings.warn(message, stacklevel=3)
