"""The official AutoAttack (extra ``verify``) behind our interface, to check published figures."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from robustpolicy.attacks.attack import Attack
from robustpolicy.attacks.model import AttackedModel
from robustpolicy.attacks.threat import Threat
from robustpolicy.errors import UserError


@dataclass(frozen=True)
class OfficialAutoAttack(Attack):
    """pyautoattack's ``run_standard_evaluation``, kept from touching anything of the caller's.

    Attributes:
        version: ``"standard"``, ``"plus"`` or ``"rand"``.
        batch_size: its own batches.
        attacks: a set of its own names instead, such as ``("apgd-ce",)``.
    """

    version: str = "standard"
    batch_size: int = 250
    attacks: tuple[str, ...] = ()

    name: ClassVar[str] = "autoattack-official"

    def _run(
        self,
        model: AttackedModel,
        x: Tensor,
        y: Tensor,
        threat: Threat,
        seed: int,
        indices: Tensor,
    ) -> Tensor:
        try:
            from pyautoattack import AutoAttack
        except ImportError:
            raise UserError(
                "the official AutoAttack is not installed; pip install 'robustpolicy[verify]'"
            ) from None
        if (threat.low, threat.high) != (0, 1):
            raise UserError("the official AutoAttack knows the input range [0, 1] alone")
        trace = sys.gettrace()  # its check for dynamic models clears this
        try:
            with torch.random.fork_rng():
                runner = AutoAttack(
                    model.module,
                    norm=threat.norm,
                    eps=threat.epsilon,
                    seed=seed,
                    device=x.device,
                    version="custom" if self.attacks else self.version,
                    attacks=list(self.attacks) or None,
                )
                if self.attacks:  # as its standard version sets them
                    runner.apgd.n_restarts = runner.fab.n_restarts = 1
                found, _ = runner.run_standard_evaluation(x, y, batch_size=self.batch_size)
        finally:
            sys.settrace(trace)
        return found.detach()
