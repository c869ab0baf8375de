"""Auto-PGD (Croce & Hein 2020): PGD with momentum that halves its step where it stalls."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from robustpolicy.attacks.attack import Attack
from robustpolicy.attacks.losses import (
    AttackLoss,
    get_attack_loss,
    get_targeted_loss,
    runner_up,
)
from robustpolicy.attacks.model import AttackedModel
from robustpolicy.attacks.noise import keyed_noise, official_noise
from robustpolicy.attacks.threat import Threat
from robustpolicy.errors import UserError

# The paper's constants: the first step is 2 eps, the share of rising steps below which it is
# halved .75, the momentum .75; checkpoints come after 22 %, then ever 3 % less, at least 6 %.
STEP, RHO, MOMENTUM = 2.0, 0.75, 0.75
FIRST, DECREASE, LEAST = 0.22, 0.03, 0.06


@dataclass(frozen=True)
class APGD(Attack):
    """Auto-PGD on a loss, or on the targeted DLR loss towards the most likely wrong classes.

    A sample leaves once it is misclassified; its path depends on nothing but its own input, loss
    and random start, so that changes no other sample's outcome.

    Attributes:
        steps: gradient steps of each restart.
        restarts: independent random starts, for each target if there are targets.
        loss: what it raises; ``"ce"`` or ``"dlr"`` in AutoAttack. Not used with targets.
        targets: steer to this many runners-up in turn; 0 is untargeted. At most classes - 1.
        eot: gradients averaged at each step, for models with random outputs.
        start: ``"keyed"`` by sample, or ``"official"`` to replay the reference implementation.
        early_exit: let fooled samples leave.
    """

    steps: int = 100
    restarts: int = 1
    loss: str | AttackLoss = "ce"
    targets: int = 0
    eot: int = 1
    start: Literal["keyed", "official"] = "keyed"
    early_exit: bool = True

    kind: ClassVar[str] = "apgd"

    def __post_init__(self) -> None:
        for name, least in (("steps", 1), ("restarts", 1), ("targets", 0), ("eot", 1)):
            value = getattr(self, name)
            if type(value) is not int or value < least:
                raise UserError(f"{name} is {value}; give a whole number, at least {least}")
        get_attack_loss(self.loss)

    @property
    def name(self) -> str:
        """``apgd-t`` with targets, else ``apgd-ce``, ``apgd-dlr``, ..."""
        if self.targets:
            return "apgd-t"
        if isinstance(self.loss, str):
            return f"apgd-{self.loss}"
        return f"apgd-{getattr(self.loss, 'name', getattr(self.loss, '__name__', 'loss'))}"

    def _run(
        self,
        model: AttackedModel,
        x: Tensor,
        y: Tensor,
        threat: Threat,
        seed: int,
        indices: Tensor,
    ) -> Tensor:
        official = self.start == "official"
        noise = official_noise(threat, seed) if official else keyed_noise(threat, seed, self.name)
        logits = model.logits(x)
        best = x.clone()
        left = (~model.wrong(logits, y)).nonzero()[:, 0]
        tries = self.restarts * (min(self.targets, model.classes - 1) if self.targets else 1)
        for number in range(tries):
            if len(left) == 0:
                break
            loss = self._loss(logits[left], rank=2 + number // self.restarts)
            drawn = noise(x[left], indices[left.cpu()], number)
            with model.part(number, tries):
                adversarial, fooled = self._try(model, x[left], y[left], threat, drawn, loss)
            best[left[fooled]] = adversarial[fooled]
            left = left[~fooled]
        return best

    def _loss(self, logits: Tensor, rank: int) -> Callable[[Tensor, Tensor], AttackLoss]:
        """Maps the places of the samples that are left to the loss on them."""
        classes = logits.shape[1]
        if not self.targets:
            plain = get_attack_loss(self.loss, classes)
            return lambda places, labels: plain
        targets = runner_up(logits, rank)
        targeted = get_targeted_loss(classes)

        def of(places: Tensor, labels: Tensor) -> AttackLoss:
            here = targets[places]
            return lambda q, labels: targeted(q, labels, here)

        return of

    def _try(
        self,
        model: AttackedModel,
        x: Tensor,
        y: Tensor,
        threat: Threat,
        noise: Tensor,
        loss_of: Callable[[Tensor, Tensor], AttackLoss],
    ) -> tuple[Tensor, Tensor]:
        """One restart: examples, and which of them are misclassified."""
        result = x.clone()
        fooled = torch.zeros(len(x), dtype=torch.bool, device=x.device)
        start = x + threat.epsilon * threat.unit(noise)
        run = _Run(x, y, start.clamp(threat.low, threat.high))
        window, decrease, least = (max(int(s * self.steps), 1) for s in (FIRST, DECREASE, LEAST))
        since = 0
        gradient, loss, wrong = self._evaluate(model, run, loss_of)
        run.begin(gradient, loss)
        for step in range(self.steps + 1):
            places = run.places[wrong]
            result[places] = run.tried[wrong]
            fooled[places] = True
            if self.early_exit and bool(wrong.any()):
                run.keep(~wrong)
            if step == self.steps or len(run.places) == 0:
                break
            run.step(threat, first=step == 0)
            gradient, loss, wrong = self._evaluate(model, run, loss_of)
            run.observe(gradient, loss)
            model.report((step + 1) / self.steps)
            since += 1
            if since == window:
                run.check(window)
                since, window = 0, max(window - decrease, least)
        return result, fooled

    def _evaluate(
        self,
        model: AttackedModel,
        run: _Run,
        loss_of: Callable[[Tensor, Tensor], AttackLoss],
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Gradient, loss and misclassification at the present iterates."""
        loss = loss_of(run.places, run.y)
        gradient, logits, values = model.gradient(run.current, run.y, loss)
        for _ in range(self.eot - 1):
            more, logits, values = model.gradient(run.current, run.y, loss)
            gradient += more
        if self.eot > 1:
            gradient /= self.eot
        return gradient, values, model.wrong(logits, run.y)


class _Run:
    """The state of every sample that is still attacked; all tensors have its first dimension."""

    def __init__(self, x: Tensor, y: Tensor, start: Tensor) -> None:
        self.x, self.y = x, y
        self.places = torch.arange(len(x), device=x.device)
        self.tried = self.current = self.previous = self.best = start
        self.gradient = self.best_gradient = torch.zeros_like(x)
        self.loss_best = torch.zeros(len(x), device=x.device)

    def begin(self, gradient: Tensor, loss: Tensor) -> None:
        """Take in what was found at the start."""
        self.gradient = self.best_gradient = gradient
        self.loss_best = self.best_at_check = loss
        self.halved = torch.ones_like(loss, dtype=torch.bool)
        self.rises = torch.zeros_like(loss)
        # The reference compares the first step's loss with 0, not with the start's.
        self.last_loss = torch.zeros_like(loss)
        self.size = torch.full_like(loss, STEP)

    def step(self, threat: Threat, *, first: bool) -> None:
        """A gradient step, then momentum, each projected (Croce & Hein 2020, Eq. 2 and 3)."""
        share = 1.0 if first else MOMENTUM
        length = (threat.epsilon * self.size).view(-1, *[1] * (self.x.ndim - 1))
        moved = threat.project(self.current + length * threat.steepest(self.gradient), self.x)
        momentum = self.current - self.previous
        moved = self.current + (moved - self.current) * share + momentum * (1 - share)
        self.previous, self.current = self.current, threat.project(moved, self.x)

    def observe(self, gradient: Tensor, loss: Tensor) -> None:
        """Take in what was found at the new iterates."""
        self.tried = self.current  # a checkpoint may move the latter
        self.gradient = gradient
        self.rises += loss > self.last_loss
        self.last_loss = loss
        better = loss > self.loss_best
        wide = better.view(-1, *[1] * (self.x.ndim - 1))
        self.best = torch.where(wide, self.current, self.best)
        self.best_gradient = torch.where(wide, gradient, self.best_gradient)
        self.loss_best = torch.where(better, loss, self.loss_best)

    def check(self, window: int) -> None:
        """At a checkpoint: halve the steps that stall, and go on from the best point."""
        stalls = self.rises <= window * RHO
        stalls |= ~self.halved & (self.best_at_check >= self.loss_best)
        self.halved, self.best_at_check = stalls, self.loss_best
        self.rises = torch.zeros_like(self.rises)
        self.size = torch.where(stalls, self.size / 2, self.size)
        wide = stalls.view(-1, *[1] * (self.x.ndim - 1))
        self.current = torch.where(wide, self.best, self.current)
        self.gradient = torch.where(wide, self.best_gradient, self.gradient)

    def keep(self, flags: Tensor) -> None:
        """Go on with these samples alone."""
        for name, value in vars(self).items():
            setattr(self, name, value[flags])
