"""Projected gradient descent (Madry et al. 2018), with restarts and any loss."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from robustpolicy.attacks.attack import Attack
from robustpolicy.attacks.losses import AttackLoss, get_attack_loss
from robustpolicy.attacks.model import AttackedModel
from robustpolicy.attacks.noise import keyed_noise
from robustpolicy.attacks.threat import Threat
from robustpolicy.errors import UserError


@dataclass(frozen=True)
class PGD(Attack):
    """Steps along the sign of the gradient, each followed by a projection.

    A sample leaves once it is misclassified, with the iterate that did it. Its random start is
    keyed by (seed, index, restart), so the others' outcomes do not depend on its leaving.

    Attributes:
        steps: gradient steps of each restart.
        step_size: length of a step, in units of the input range.
        random_start: begin at a random point of the ball (uniform for Linf, on the sphere for L2);
            else at the input itself.
        restarts: independent tries; more than one needs a random start.
        loss: what it raises: a name of ``ATTACK_LOSSES`` or a function (logits, labels) -> (B,).
        early_exit: let fooled samples leave. Off, all take every step (for tests and timing) and
            the result is the same up to the rounding that the composition of a batch causes.
        last: return the last iterate of every sample, fooled on the way or not; none leaves. It
            has the greatest loss, which is what another model is attacked with.
    """

    steps: int = 40
    step_size: float = 0.01
    random_start: bool = True
    restarts: int = 1
    loss: str | AttackLoss = "ce"
    early_exit: bool = True
    last: bool = False

    name: ClassVar[str] = "pgd"

    def __post_init__(self) -> None:
        for name in ("steps", "restarts"):
            value = getattr(self, name)
            if type(value) is not int or value < 1:
                raise UserError(f"{name} is {value}; give a whole number, at least 1")
        get_attack_loss(self.loss)
        if not 0 < self.step_size < float("inf"):
            raise UserError(f"step_size is {self.step_size:g}; give a length > 0, such as 0.01")
        if self.restarts > 1 and not self.random_start:
            raise UserError("restarts without a random start repeat each other; use one of the two")

    def __call__(
        self,
        model: nn.Module | AttackedModel,
        x: Tensor,
        y: Tensor,
        threat: Threat,
        *,
        seed: int = 0,
        indices: Tensor | None = None,
        start: Tensor | None = None,
    ) -> Tensor:
        """Adversarial examples; arguments as for the other attacks, and one more.

        Args:
            model: classifier.
            x: inputs, shape (B, ...).
            y: labels, shape (B,).
            threat: ball and range.
            seed: seed of the random starts.
            indices: index of each sample in its data set, shape (B,).
            start: where the first restart begins instead, the shape of ``x``.
        """
        return self._call(model, x, y, threat, seed, indices, start=start)

    def _run(
        self,
        model: AttackedModel,
        x: Tensor,
        y: Tensor,
        threat: Threat,
        seed: int,
        indices: Tensor,
        start: Tensor | None = None,
    ) -> Tensor:
        best = x.clone()
        left = torch.arange(len(x), device=x.device)  # samples not fooled yet
        for restart in range(self.restarts):
            if len(left) == 0:
                break
            first = start[left] if start is not None and restart == 0 else None
            if first is None and self.random_start:
                keys = indices[left.cpu()]
                noise = keyed_noise(threat, seed, "start")(x[left], keys, restart)
                first = x[left] + threat.epsilon * noise
            with model.part(restart, self.restarts):
                adversarial, fooled = self._try(model, x[left], y[left], threat, first)
            # Unfooled samples keep the last iterate: the contract promises an attempt.
            best[left] = adversarial
            left = left[~fooled]
        return best

    def _try(
        self,
        model: AttackedModel,
        x: Tensor,
        y: Tensor,
        threat: Threat,
        start: Tensor | None,
    ) -> tuple[Tensor, Tensor]:
        """One restart: the examples and which of them are misclassified."""
        loss = get_attack_loss(self.loss, model.classes)
        result = x.clone()
        fooled = torch.zeros(len(x), dtype=torch.bool, device=x.device)
        left = torch.arange(len(x), device=x.device)
        current = x if start is None else threat.project(start, x)
        for step in range(self.steps + 1):
            model.report(step / self.steps)
            last = step == self.steps
            if last:
                logits = model.logits(current)
            else:
                gradient, logits, _ = model.gradient(current, y, loss)
            wrong = model.wrong(logits, y)
            # Record the first iterate that fools, even if the sample does not leave.
            new = wrong & ~fooled[left]
            result[left[new]] = current[new]
            fooled[left[new]] = True
            if last:
                rest = torch.ones_like(wrong) if self.last else ~fooled[left]
                result[left[rest]] = current[rest]
                if self.last:
                    fooled[left] = wrong
                break
            if self.early_exit and not self.last and bool(new.any()):
                keep = ~new
                left, y, x = left[keep], y[keep], x[keep]
                current, gradient = current[keep], gradient[keep]
                if len(left) == 0:
                    break
            current = threat.project(current + self.step_size * threat.steepest(gradient), x)
        return result, fooled
