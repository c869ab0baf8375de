"""From a recipe's loss to the module that trains, and to the function that attacks raise."""

from __future__ import annotations

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, nn

from robustpolicy.draws import RandomSource
from robustpolicy.losses import (
    GCELoss,
    MMCLoss,
    PCLoss,
    TwoStageLoss,
    gce_loss,
    mmc_loss,
    pc_loss,
    policy_entropy,
    policy_loss,
)
from robustpolicy.training.recipe import GCE, MMC, PC, CrossEntropy, TwoStage

AnyLoss = CrossEntropy | TwoStage | PC | GCE | MMC


def build_loss(loss: AnyLoss, generator: RandomSource = None) -> nn.Module:
    """The module ``(logits, labels) -> scalar`` of a recipe's loss.

    One with a ``stage`` also has ``observe(accuracy)``, called at the end of each epoch. One with
    ``passes`` also has ``begin()``, called before each batch that has several.
    """
    if isinstance(loss, CrossEntropy):
        return nn.CrossEntropyLoss()
    if isinstance(loss, PC):
        return PCLoss(loss.margin, loss.constraint, warmup=loss.warmup_epochs)
    if isinstance(loss, GCE):
        return GCELoss(loss.alpha)
    if isinstance(loss, MMC):
        return MMCLoss()
    return TwoStageLoss(
        loss.penalty,
        loss.warmup_penalty,
        loss.reward,
        threshold=loss.threshold,
        switch_epoch=loss.switch_epoch,
        warmup=loss.warmup,
        actions=loss.actions,
        warmup_actions=loss.warmup_actions,
        generator=generator,
        draws=loss.draws,
        baseline=loss.baseline,
        entropy=loss.entropy,
        clip=loss.clip,
        value_weight=loss.value_weight,
        passes=loss.passes,
    )


@dataclass(frozen=True)
class TrainingLoss:
    """The loss that a training ends with, for an attack to raise; the second of two stages.

    Sampled actions are attacked in their expectation, which has no randomness; a baseline or a clip
    changes nothing there.

    Attributes:
        loss: of the recipe.
    """

    loss: AnyLoss

    def __call__(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Loss of each sample, shape (B,)."""
        loss = self.loss
        if isinstance(loss, CrossEntropy):
            return F.cross_entropy(logits, labels, reduction="none")
        if isinstance(loss, PC):
            return pc_loss(logits, labels, margin=loss.margin, constraint=loss.constraint)
        if isinstance(loss, GCE):
            return gce_loss(logits, labels, alpha=loss.alpha)
        if isinstance(loss, MMC):
            return mmc_loss(logits, labels)
        actions = "greedy" if loss.actions == "greedy" else "expected"
        values = policy_loss(
            logits, labels, reward=loss.reward, penalty=loss.penalty, actions=actions
        )
        return values - loss.entropy * policy_entropy(logits) if loss.entropy > 0 else values

    @property
    def name(self) -> str:
        """Its name in results."""
        return f"training-{self.loss.name}"
