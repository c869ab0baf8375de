"""Attacks: ``attack(model, x, y, threat, seed=0, indices=None) -> x_adv``.

An attack is a frozen dataclass whose fields are its whole configuration. It freezes the model's
parameters, uses eval mode and float32, restores the caller's mode, and leaves BatchNorm
statistics and the global random state alone. The caller verifies what it returns with
:meth:`Threat.verify`. A new attack is one file and one line in :data:`ATTACKS`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from robustpolicy.attacks.apgd import APGD
from robustpolicy.attacks.fgsm import FGSM
from robustpolicy.attacks.losses import ATTACK_LOSSES, AttackLoss
from robustpolicy.attacks.model import AttackedModel
from robustpolicy.attacks.pgd import PGD
from robustpolicy.attacks.threat import Threat

#: Any attack of this package.
Attack = APGD | FGSM | PGD
#: name -> constructor; every field has a default.
ATTACKS: dict[str, Callable[..., Any]] = {"fgsm": FGSM, "pgd": PGD}

__all__ = [
    "APGD",
    "ATTACKS",
    "ATTACK_LOSSES",
    "FGSM",
    "PGD",
    "Attack",
    "AttackLoss",
    "AttackedModel",
    "Threat",
]
