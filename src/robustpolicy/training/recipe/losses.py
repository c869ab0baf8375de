"""The training losses that a recipe can name."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from robustpolicy.errors import UserError
from robustpolicy.training.recipe.fields import check, check_types

Actions = Literal["greedy", "sampled", "expected"]


@dataclass(frozen=True)
class CrossEntropy:
    """Cross-entropy, the baseline."""

    name: ClassVar[str] = "cross-entropy"


@dataclass(frozen=True)
class TwoStage:
    """The paper's two stages: a warm-up with Eq. 12, then Eq. 4."""

    penalty: float = 1.5
    """Penalty of a wrong action in Eq. 4 (the paper's lambda_2, with reward 1)."""
    warmup_penalty: float = 0.75
    """Penalty of a wrong action in the warm-up, Eq. 12 (the paper's lambda_1)."""
    reward: float = 1.0
    """Reward of a correct action, in both stages."""
    threshold: float = 0.8
    """Accuracy on the watched split above which the second stage begins."""
    warmup: Literal["alternative", "cross-entropy", "none"] = "alternative"
    """First stage: Eq. 12, cross-entropy, or none (Eq. 4 alone, from scratch)."""
    actions: Actions = "greedy"
    """How the second stage takes its actions."""
    warmup_actions: Actions = "sampled"
    """How the warm-up takes its actions."""
    switch_epoch: int = 0
    """The second stage begins after this many epochs whatever the accuracy; 0: by the threshold."""
    draws: int = 1
    """Beyond the paper, as all below, for the second stage: sampled actions an image."""
    baseline: Literal["none", "mean", "group", "value"] = "none"
    """Subtracted from the rewards of sampled actions: the mean of the batch, of the image's own
    draws, or a critic's estimate."""
    entropy: float = 0.0
    """Weight of an entropy bonus, with any actions."""
    clip: float = 0.0
    """Bound on the ratio of new to old probability over several passes, as in PPO; 0 for none."""
    passes: int = 1
    """Steps on each batch with the same sampled actions."""
    value_weight: float = 1.0
    """Weight of the critic's own loss."""

    name: ClassVar[str] = "two-stage"

    def __post_init__(self) -> None:
        check_types(self)
        for name in ("penalty", "warmup_penalty", "reward"):
            check(self, name, 0 <= getattr(self, name) < float("inf"), "a finite number >= 0")
        for name in ("penalty", "warmup_penalty"):
            if self.reward == 0 and getattr(self, name) == 0:
                raise UserError(f"reward and {name} are both 0; make one of them positive")
        check(self, "switch_epoch", self.switch_epoch >= 0, "at least 0")
        check(self, "threshold", 0 <= self.threshold < 1, "an accuracy in [0, 1), such as 0.8")
        self._check_options()

    def _check_options(self) -> None:
        """Check what goes beyond the paper."""
        check(self, "draws", self.draws >= 1, "at least 1")
        check(self, "passes", self.passes >= 1, "at least 1")
        check(self, "entropy", 0 <= self.entropy < float("inf"), "a finite number >= 0")
        check(self, "clip", self.clip >= 0, "a number >= 0, such as 0.2")
        check(self, "value_weight", 0 <= self.value_weight < float("inf"), "a finite number >= 0")
        drawn = {"draws": 1, "baseline": "none", "clip": 0, "passes": 1}
        for name, neutral in drawn.items():
            if self.actions != "sampled" and getattr(self, name) != neutral:
                raise UserError(
                    f"{name} is {getattr(self, name)} with {self.actions} actions; it needs "
                    "sampled ones"
                )
        if self.baseline == "group" and self.draws < 2:
            raise UserError("baseline is group with one draw; give draws of at least 2")
        if self.clip > 0 and self.passes < 2:
            raise UserError(
                f"clip is {self.clip:g} with one pass, where the ratio is 1; give passes of at "
                "least 2"
            )


@dataclass(frozen=True)
class PC:
    """Probabilistically compact loss with logit constraints, after a cross-entropy training."""

    margin: float = 0.995
    """How far the right probability should stand above each other one."""
    constraint: float = 0.05
    """Weight of the term that keeps logits close."""
    warmup_epochs: int = 0
    """Epochs of cross-entropy before."""

    name: ClassVar[str] = "pc"

    def __post_init__(self) -> None:
        check_types(self)
        check(self, "margin", 0 <= self.margin <= 1, "a probability in [0, 1], such as 0.995")
        check(self, "constraint", 0 <= self.constraint < float("inf"), "a finite number >= 0")
        check(self, "warmup_epochs", self.warmup_epochs >= 0, "at least 0")


@dataclass(frozen=True)
class GCE:
    """Guided complement entropy."""

    alpha: float = 1 / 3
    """The guiding exponent."""

    name: ClassVar[str] = "gce"

    def __post_init__(self) -> None:
        check_types(self)
        check(self, "alpha", 0 < self.alpha < float("inf"), "an exponent > 0, such as 0.333")


@dataclass(frozen=True)
class MMC:
    """Max-Mahalanobis centre loss; the model gets a last layer of fixed centres."""

    dim: int = 256
    """Outputs of the model: the space of the centres, at least as many as classes less one."""
    scale: float = 10.0
    """Length of the centres."""

    name: ClassVar[str] = "mmc"

    def __post_init__(self) -> None:
        check_types(self)
        check(self, "dim", self.dim >= 2, "at least 2")
        check(self, "scale", 0 < self.scale < float("inf"), "a number > 0, such as 10")


#: Every loss that a recipe can name.
LOSSES: tuple[Any, ...] = (CrossEntropy, TwoStage, PC, GCE, MMC)
