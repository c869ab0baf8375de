"""What actions earn (Eq. 3): by two amounts and the labels, or by a table of rewards."""

from __future__ import annotations

import torch
from torch import Tensor

from robustpolicy.losses.validation import Amount


def outcome(
    a: Tensor,
    logits: Tensor,
    labels: Tensor | None,
    reward: Amount,
    penalty: Amount,
    rewards: Tensor | None,
) -> tuple[Tensor, float | Tensor, float | Tensor]:
    """Whether each action is correct (B,), its reward if so, its penalty if not."""
    if rewards is not None:
        earned = rewards.gather(1, a[:, None])[:, 0].to(logits.dtype)
        return earned >= 0, earned, -earned
    assert labels is not None
    return a == labels, by_label(reward, labels, logits), by_label(penalty, labels, logits)


def earned(
    actions: Tensor,
    logits: Tensor,
    labels: Tensor | None,
    reward: Amount,
    penalty: Amount,
    rewards: Tensor | None,
) -> Tensor:
    """r(s, a) of K actions a sample, shape (K, B), in the dtype of the logits."""
    if rewards is not None:
        return rewards.gather(1, actions.T).T.to(logits.dtype)
    assert labels is not None
    gain, loss = by_label(reward, labels, logits), by_label(penalty, labels, logits)
    return pick(actions == labels, gain, -loss, logits.dtype)


def pick(condition: Tensor, yes: float | Tensor, no: float | Tensor, dtype: torch.dtype) -> Tensor:
    """torch.where that keeps ``dtype``: of two numbers, it would make the default dtype."""
    if isinstance(yes, Tensor) or isinstance(no, Tensor) or dtype == torch.get_default_dtype():
        return torch.where(condition, yes, no)
    return condition.to(dtype).mul_(yes - no).add_(no)


def expected_rewards(
    logits: Tensor,
    labels: Tensor | None,
    reward: Amount,
    penalty: Amount,
    rewards: Tensor | None,
) -> Tensor:
    """pi_a r(s, a) of every action, a constant of shape (B, C)."""
    pi = logits.detach().softmax(1)
    if rewards is not None:
        return pi.mul_(rewards)
    assert labels is not None
    gain, loss = by_label(reward, labels, logits), by_label(penalty, labels, logits)
    index = labels[:, None]
    right = pi.gather(1, index) * (gain[:, None] if isinstance(gain, Tensor) else gain)
    pi.mul_(-loss[:, None] if isinstance(loss, Tensor) else -loss)
    return pi.scatter_(1, index, right)


def by_label(amount: Amount, labels: Tensor, logits: Tensor) -> float | Tensor:
    """An amount of each sample: the number itself, or (B,) of amounts per class."""
    if not isinstance(amount, Tensor):
        return amount
    amount = amount.to(logits)
    return amount[labels] if amount.ndim else amount.expand(len(labels))
