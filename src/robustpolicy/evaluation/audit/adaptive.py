"""Attacks that adapt to a defence: other precision, other backward pass, expectation."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from robustpolicy.attacks import AttackedModel, Threat
from robustpolicy.attacks.attack import Attack


@dataclass(frozen=True)
class InDouble(Attack):
    """An attack on a copy of the model in float64.

    Attributes:
        attack: what runs there.
        double: the copy.
    """

    attack: Any
    double: nn.Module = field(repr=False)

    name: ClassVar[str] = "in-double"

    def _run(
        self,
        model: AttackedModel,
        x: Tensor,
        y: Tensor,
        threat: Threat,
        seed: int,
        indices: Tensor,
    ) -> Tensor:
        found = self.attack(self.double, x.double(), y, threat, seed=seed, indices=indices)
        return threat.project(found.to(x.dtype), x)  # rounding may have left the ball


def in_double(model: nn.Module, x: Tensor) -> nn.Module | None:
    """A copy in float64; None for a model that cannot be copied or computed in it."""
    try:
        double = copy.deepcopy(model).double().eval()
        with torch.no_grad():
            fine = double(x[:2].double()).dtype == torch.float64
    except Exception:  # the user's code can raise anything
        return None
    return double if fine else None


class Expected(nn.Module):
    """Several passes of a model with random outputs as one: log of the mean probability.

    Athalye et al. (2018) call it expectation over transformation.

    Args:
        model: the original.
        passes: how many.
    """

    def __init__(self, model: nn.Module, passes: int) -> None:
        super().__init__()
        self.model = model
        self.passes = passes

    def forward(self, x: Tensor) -> Tensor:
        """Log-probabilities, shape (B, C)."""
        drawn = [self.model(x).log_softmax(1) for _ in range(self.passes)]
        return torch.stack(drawn).logsumexp(0)
