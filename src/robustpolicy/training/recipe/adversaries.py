"""The adversarial trainings that a recipe can name."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from robustpolicy.training.recipe.fields import check, check_types


@dataclass(frozen=True)
class NoAdversary:
    """Training on the images as they are."""

    name: ClassVar[str] = "none"


@dataclass(frozen=True)
class _Adversary:
    """The attack inside an adversarial training."""

    epsilon: float = 0.1
    """Radius of the l-infinity ball."""
    steps: int = 10
    """Gradient steps of the attack in each training step."""
    step_size: float = 0.025
    """Length of such a step."""
    ramp: int = 2
    """Epsilon (and the step) rise linearly over this many epochs before they are whole."""
    weight_perturbation: float = 0.0
    """Adversarial weight perturbation: how far each weight tensor is moved, relative to its norm
    (0.005 to 0.01 where it is used; 0 is none)."""

    def __post_init__(self) -> None:
        check_types(self)
        check(self, "epsilon", 0 < self.epsilon < float("inf"), "a radius > 0, such as 0.1")
        check(self, "step_size", 0 < self.step_size < float("inf"), "a length > 0")
        check(self, "steps", self.steps >= 1, "at least 1")
        check(self, "ramp", self.ramp >= 0, "at least 0")
        fine = 0 <= self.weight_perturbation < 1
        check(self, "weight_perturbation", fine, "a share in [0, 1), such as 0.005")

    def radius(self, epoch: int) -> float:
        """Epsilon in an epoch, counted from 0."""
        return self.epsilon * min(1.0, (epoch + 1) / (self.ramp + 1))


@dataclass(frozen=True)
class MadryAT(_Adversary):
    """Adversarial training (Madry et al. 2018): the loss on PGD's last iterate."""

    name: ClassVar[str] = "madry"


@dataclass(frozen=True)
class Trades(_Adversary):
    """TRADES (Zhang et al. 2019): the loss on the image, and beta times the divergence between
    the outputs on the image and on an adversarial one.
    """

    beta: float = 6.0
    """Weight of the divergence."""
    clean_forwards: Literal[1, 2] = 1
    """Passes over the clean images in each step. One is enough; the reference implementation makes
    two, which moves running statistics of batch normalisation three times a step, not twice."""

    name: ClassVar[str] = "trades"

    def __post_init__(self) -> None:
        super().__post_init__()
        check(self, "beta", 0 < self.beta < float("inf"), "a number > 0, such as 6")


@dataclass(frozen=True)
class Mart(_Adversary):
    """MART (Wang et al. 2020): a boosted cross-entropy on the adversarial image, and the
    divergence weighted by how far the clean image is from right. It has its own loss.
    """

    beta: float = 5.0
    """Weight of the divergence (the paper's lambda)."""

    name: ClassVar[str] = "mart"

    def __post_init__(self) -> None:
        super().__post_init__()
        check(self, "beta", 0 < self.beta < float("inf"), "a number > 0, such as 5")


#: Every adversarial training that a recipe can name.
ADVERSARIES: tuple[Any, ...] = (NoAdversary, MadryAT, Trades, Mart)
