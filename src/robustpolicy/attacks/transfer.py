"""Transfer: examples crafted on other models, judged on the target (Papernot et al. 2016)."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import Any, ClassVar

from torch import Tensor, nn

from robustpolicy.attacks.attack import Attack, on_survivors
from robustpolicy.attacks.model import AttackedModel
from robustpolicy.attacks.pgd import PGD
from robustpolicy.attacks.threat import Threat
from robustpolicy.errors import UserError


@dataclass(frozen=True)
class Transfer(Attack):
    """Each surrogate in turn, on the samples that the target still classifies correctly.

    It sees no gradient of the target: where it finds what white-box attacks missed, those
    gradients are masked.

    Attributes:
        surrogates: models of the same inputs and classes, on any device.
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

    def _run(
        self,
        model: AttackedModel,
        x: Tensor,
        y: Tensor,
        threat: Threat,
        seed: int,
        indices: Tensor,
    ) -> Tensor:
        def craft(surrogate: nn.Module, left: Tensor) -> Tensor:
            keys = indices[left.cpu()]
            return self.attack(surrogate, x[left], y[left], threat, seed=seed, indices=keys)

        return on_survivors(model, x, y, [partial(craft, other) for other in self.surrogates])
