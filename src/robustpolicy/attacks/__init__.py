"""Attacks: ``attack(model, x, y, threat, seed=0, indices=None) -> x_adv``.

An attack is a frozen dataclass whose fields are its whole configuration. It freezes the model's
parameters, uses eval mode and float32, restores the caller's mode, and leaves BatchNorm
statistics and the global random state alone. The caller verifies what it returns with
:meth:`Threat.verify`. A new attack is one file and one line in :data:`ATTACKS`.
"""

from __future__ import annotations

from typing import Any

from robustpolicy.attacks.apgd import APGD
from robustpolicy.attacks.autoattack import MEMBERS, VERSIONS, AutoAttack
from robustpolicy.attacks.fab import FAB
from robustpolicy.attacks.fgsm import FGSM
from robustpolicy.attacks.losses import ATTACK_LOSSES, AttackLoss
from robustpolicy.attacks.model import AttackedModel, NoGradientError
from robustpolicy.attacks.official import OfficialAutoAttack
from robustpolicy.attacks.pgd import PGD
from robustpolicy.attacks.spsa import SPSA
from robustpolicy.attacks.square import Square
from robustpolicy.attacks.threat import Threat
from robustpolicy.attacks.transfer import Transfer

#: name -> the attack as it is when only its name is given.
ATTACKS: dict[str, Any] = {
    "fgsm": FGSM(),
    "pgd": PGD(),
    **MEMBERS,
    "spsa": SPSA(),
    "autoattack": AutoAttack(),
}

__all__ = [
    "APGD",
    "ATTACKS",
    "ATTACK_LOSSES",
    "FAB",
    "FGSM",
    "PGD",
    "SPSA",
    "VERSIONS",
    "AttackLoss",
    "AttackedModel",
    "AutoAttack",
    "NoGradientError",
    "OfficialAutoAttack",
    "Square",
    "Threat",
    "Transfer",
]
