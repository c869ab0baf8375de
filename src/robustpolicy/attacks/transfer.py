"""Transfer: examples crafted on other models, judged on the target (Papernot et al. 2016)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from robustpolicy.attacks.model import AttackedModel
from robustpolicy.attacks.pgd import PGD
from robustpolicy.attacks.threat import Threat
from robustpolicy.errors import UserError


@dataclass(frozen=True)
class Transfer:
    """Each surrogate in turn, on the samples that the target still classifies correctly.

    It sees no gradient of the target: where it finds what white-box attacks missed, those
    gradients are masked.

    Attributes:
        surrogates: models of the same inputs and classes, on the device of the inputs.
        attack: what crafts the examples; PGD's last iterate, of greatest loss, travels best.
        labels: names of the surrogates, for the record.
    """

    surrogates: tuple[nn.Module, ...] = field(repr=False)
    attack: Any = field(default_factory=lambda: PGD(last=True))
    labels: tuple[str, ...] = ()

    name: ClassVar[str] = "transfer"

    def __post_init__(self) -> None:
        if not self.surrogates:
            raise UserError("a transfer attack needs at least one surrogate model")

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
        """Adversarial examples, the shape of ``x``; arguments as for the other attacks."""
        if indices is None:
            indices = torch.arange(len(x))
        with AttackedModel.of(model) as target:
            result = x.clone()
            left = (~target.wrong(target.logits(x), y)).nonzero()[:, 0]
            for surrogate in self.surrogates:
                if len(left) == 0:
                    break
                found = self.attack(
                    surrogate, x[left], y[left], threat, seed=seed, indices=indices[left.cpu()]
                )
                result[left] = found
                left = left[~target.wrong(target.logits(found), y[left])]
            return result
