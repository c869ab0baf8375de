"""AutoAttack (Croce & Hein 2020): a fixed sequence of attacks, each on what withstood the last."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

from torch import Tensor

from robustpolicy.attacks.apgd import APGD
from robustpolicy.attacks.attack import Attack, on_survivors
from robustpolicy.attacks.fab import FAB
from robustpolicy.attacks.model import AttackedModel
from robustpolicy.attacks.square import Square
from robustpolicy.attacks.threat import Threat
from robustpolicy.errors import UserError

#: The members by name, as the standard version sets them.
MEMBERS: dict[str, Any] = {
    "apgd-ce": APGD(loss="ce"),
    "apgd-dlr": APGD(loss="dlr"),
    "apgd-t": APGD(targets=9),
    "fab": FAB(),
    "fab-t": FAB(targets=9),
    "square": Square(),
}
#: The published versions. ``rand`` averages 20 gradients, for models with random outputs.
VERSIONS: dict[str, tuple[Any, ...]] = {
    "standard": tuple(MEMBERS[name] for name in ("apgd-ce", "apgd-t", "fab-t", "square")),
    "plus": (
        APGD(loss="ce", restarts=5),
        APGD(loss="dlr", restarts=5),
        FAB(restarts=5),
        Square(),
        APGD(targets=9),
        FAB(targets=9),
    ),
    "rand": (APGD(loss="ce", eot=20), APGD(loss="dlr", eot=20)),
}


@dataclass(frozen=True)
class AutoAttack(Attack):
    """A sequence of attacks; called, it runs them one after another on the survivors.

    The evaluation runs its ``members`` itself, batch by batch, so that it can resume.

    Attributes:
        version: ``"standard"``, ``"plus"`` or ``"rand"``; only a name where ``members`` are given.
        members: attacks of a set of your own.
    """

    version: str = "standard"
    members: tuple[Any, ...] = ()

    name: ClassVar[str] = "autoattack"

    def __post_init__(self) -> None:
        if not self.members:
            if self.version not in VERSIONS:
                raise UserError(
                    f"unknown AutoAttack version {self.version!r}; choose one of "
                    f"{', '.join(VERSIONS)}, or give members of your own"
                )
            object.__setattr__(self, "members", VERSIONS[self.version])

    def _run(
        self,
        model: AttackedModel,
        x: Tensor,
        y: Tensor,
        threat: Threat,
        seed: int,
        indices: Tensor,
    ) -> Tensor:
        def run(member: Any, left: Tensor) -> Tensor:
            keys = indices[left.cpu()]
            return member(model, x[left], y[left], threat, seed=seed, indices=keys)

        return on_survivors(model, x, y, [partial(run, member) for member in self.members])
