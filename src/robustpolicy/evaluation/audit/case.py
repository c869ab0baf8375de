"""The case under audit: the model, its samples, and every attack tried on them so far."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from robustpolicy.attacks import PGD, AttackedModel, NoGradientError, Threat
from robustpolicy.evaluation.audit.outcome import BLACK, WHITE, Attempt
from robustpolicy.evaluation.judge import Judge
from robustpolicy.evaluation.result import describe
from robustpolicy.randomness import derive_seed


@dataclass(frozen=True)
class Budget:
    """How much work the checks may do.

    Attributes:
        restarts: random starts of PGD in the check of effort.
        targets: runners-up that the targeted attack steers to, and ``apgd_steps`` towards each.
        queries: of Square, a sample.
        spsa: steps, directions, samples.
        draws: random points of the ball, a sample.
        few: samples of the checks that look at single gradients or paths.
        binarised: samples of the binarisation test.
        expectation: passes that stand for one, where outputs are random.
        surrogate_steps: training steps of a surrogate.
        autoattack: whether AutoAttack runs.
        seeds: seeds of PGD that are compared; 1 compares none.
    """

    name: str
    restarts: int
    targets: int
    apgd_steps: int
    queries: int
    spsa: tuple[int, int, int]
    draws: int
    few: int
    binarised: int
    expectation: int
    surrogate_steps: int
    autoattack: bool
    seeds: int


BUDGETS = {
    budget.name: budget
    for budget in (
        Budget("quick", 3, 3, 40, 500, (20, 16, 100), 20, 200, 100, 8, 600, False, 1),
        Budget("standard", 5, 9, 100, 5000, (40, 32, 200), 100, 500, 200, 16, 2000, True, 1),
        Budget("full", 10, 9, 100, 5000, (100, 64, 500), 1000, 1000, 500, 32, 6000, True, 5),
    )
}


@dataclass
class Case:
    """What the checks see, and where their attacks leave what they found.

    Attributes:
        judge: runs and verifies attacks.
        clean: correctly classified samples, bool, shape (N,).
        budget: how much work to do.
        train_loss: the loss that the model was trained with, if known.
        train_data: training images and labels for a surrogate, if given.
        surrogates: other models, by label.
        folder: where surrogates are kept; None keeps none.
        attempts: every attack so far, by name.
        notes: measurements that later checks need, by name.
    """

    judge: Judge
    clean: Tensor
    budget: Budget
    train_loss: Any = None
    train_data: tuple[Tensor, Tensor] | None = None
    surrogates: dict[str, nn.Module] = field(default_factory=dict)
    folder: Path | None = None
    attempts: dict[str, Attempt] = field(default_factory=dict)
    notes: dict[str, Any] = field(default_factory=dict)

    @property
    def model(self) -> AttackedModel:
        """The model, entered."""
        return self.judge.model

    @property
    def threat(self) -> Threat:
        """Ball and range."""
        return self.judge.threat

    @property
    def n(self) -> int:
        """Samples."""
        return len(self.clean)

    @property
    def classes(self) -> int:
        """Classes that the model distinguishes."""
        return self.model.classes

    def pgd(self, **changes: Any) -> PGD:
        """PGD as the claim has it: 40 steps of a tenth of epsilon (the paper's .01 at .1)."""
        return dataclasses.replace(PGD(40, self.threat.epsilon / 10), **changes)

    def attack(
        self, name: str, attack: Any, kind: str, on: Tensor, threat: Threat | None = None
    ) -> Attempt:
        """Attack the samples where ``on`` is set, and keep what it found.

        With another threat than the case's own the result is returned alone: its examples do
        not count.
        """
        judge = self.judge
        if threat is not None:
            judge = dataclasses.replace(judge, threat=threat, store=None)
        try:
            result = judge.run(attack, name, on.clone())
        except NoGradientError as error:
            nothing = torch.zeros_like(on)
            attempt = Attempt(kind, on, nothing, describe(attack), error=str(error))
        else:
            attempt = Attempt(kind, on, on & ~result.robust, result.config, result.seconds)
        if threat is None:
            self.attempts[name] = attempt
        return attempt

    def standing(self, kinds: Sequence[str] = WHITE + BLACK) -> Tensor:
        """Correct samples that no attack of these kinds has fooled, bool, shape (N,)."""
        left = self.clean.clone()
        for attempt in self.attempts.values():
            if attempt.kind in kinds:
                left &= ~attempt.fooled
        return left

    def accuracy(self, name: str) -> float:
        """Robust accuracy under one attack that was run on every correct sample."""
        return share(self.clean & ~self.attempts[name].fooled)

    def gain(self, name: str, over: Tensor) -> float:
        """Share of all samples that an attack took of those in ``over``."""
        return share(self.attempts[name].fooled & over)

    def few(self, of: Tensor, count: int | None = None) -> Tensor:
        """Places of a few of these samples, drawn at random with the audit's seed."""
        draws = torch.Generator().manual_seed(derive_seed(self.judge.seed, "few"))
        order = torch.randperm(self.n, generator=draws)
        return order[of[order]][: count or self.budget.few]

    def some(self, of: Tensor, count: int) -> Tensor:
        """A few of these samples as flags."""
        flags = torch.zeros_like(of)
        flags[self.few(of, count)] = True
        return flags

    def batch(self, places: Tensor) -> tuple[Tensor, Tensor]:
        """Inputs and labels of samples, on the model's device."""
        return self.model.place(self.judge.x[places]), self.model.place(self.judge.y[places])


def beside(threat: Threat, x: Tensor, scale: float, draws: torch.Generator) -> Tensor:
    """A random point near each input, in the range and ``scale`` of the ball's radius away.

    Noise that would leave the range goes the other way: cut off there, equal values would stay
    equal, and equal pixels under a max-pooling are a kink.
    """
    noise = (2 * torch.rand(x.shape, generator=draws) - 1).to(x)
    if threat.norm == "L2":
        noise = threat.unit(noise)
    step = scale * threat.epsilon * noise
    moved = x + step
    moved = torch.where((moved < threat.low) | (moved > threat.high), x - step, moved)
    return moved.clamp(threat.low, threat.high)


def share(flags: Tensor) -> float:
    """Share of samples that are set."""
    return float(flags.double().mean()) if len(flags) else 0.0
