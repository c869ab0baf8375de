"""Policy-gradient losses as drop-in replacements for cross-entropy.

The functional forms give one loss per sample, shape ``(B,)``; the caller reduces. The module
forms reduce by the mean, like ``torch.nn.CrossEntropyLoss``.

What belongs here: pure functions of ``(logits, labels, ...)`` with a published formula. A loss
that needs a model, an attack or a data set belongs to :mod:`robustpolicy.training`.
"""

from robustpolicy.losses.baselines import (
    GCELoss,
    MMCLoss,
    PCLoss,
    gce_loss,
    mmc_loss,
    pc_loss,
)
from robustpolicy.losses.modules import AlternativeLoss, PolicyLoss, RewardLoss
from robustpolicy.losses.policy import ACTIONS, alternative_loss, policy_loss, sample_actions
from robustpolicy.losses.reinforce import (
    BASELINES,
    Rollout,
    policy_entropy,
    rollout,
    rollout_loss,
    value_loss,
)
from robustpolicy.losses.two_stage import WARMUPS, TwoStageLoss

__all__ = [
    "ACTIONS",
    "BASELINES",
    "WARMUPS",
    "AlternativeLoss",
    "GCELoss",
    "MMCLoss",
    "PCLoss",
    "PolicyLoss",
    "RewardLoss",
    "Rollout",
    "TwoStageLoss",
    "alternative_loss",
    "gce_loss",
    "mmc_loss",
    "pc_loss",
    "policy_entropy",
    "policy_loss",
    "rollout",
    "rollout_loss",
    "sample_actions",
    "value_loss",
]
