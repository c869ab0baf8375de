"""Losses that the paper compares with: PC, GCE and MMC, each from its own publication."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from robustpolicy.errors import UserError
from robustpolicy.losses.validation import check_shapes, check_values


def pc_loss(
    logits: Tensor,
    labels: Tensor,
    *,
    margin: float = 0.995,
    constraint: float = 0.05,
    validate: bool = False,
) -> Tensor:
    r"""Probabilistically compact loss with logit constraints, one value per sample.

    .. math:: \frac{1}{C-1} \sum_{j \ne y} \max(0, \pi_j - \pi_y + \xi)
        + c \sum_{j \ne y} s_j \max(0, q_y - q_j)

    with s the softmax over the classes other than y. Its authors train with it after a whole
    cross-entropy training.

    Args:
        logits: q, shape (B, C), C >= 2.
        labels: y, int64, shape (B,).
        margin: xi, how far the right probability should stand above each other one.
        constraint: c, the weight that keeps logits close; 0 leaves the second term out.
        validate: also look for NaN, inf and labels out of range (waits for the device).

    Returns:
        Loss per sample, shape (B,), never negative.

    Reference: Li et al., *Improving Adversarial Robustness via Probabilistically Compact Loss with
    Logit Constraints* (2020).
    """
    _check(logits, labels, validate)
    pi, index = logits.softmax(1), labels[:, None]
    others = torch.ones_like(logits).scatter_(1, index, 0)
    gaps = (pi - pi.gather(1, index) + margin).clamp(min=0) * others
    loss = gaps.sum(1) / (logits.shape[1] - 1)
    if constraint:
        rivals = logits.masked_fill(others == 0, -math.inf).softmax(1)
        distance = (logits.gather(1, index) - logits).clamp(min=0)
        loss = loss + constraint * (rivals * distance).sum(1)
    return loss


def gce_loss(
    logits: Tensor, labels: Tensor, *, alpha: float = 1 / 3, validate: bool = False
) -> Tensor:
    r"""Guided complement entropy, one value per sample.

    .. math:: \frac{\pi_y^\alpha}{\log C} \sum_{j \ne y} g_j \log g_j,
        \quad g_j = \frac{\pi_j}{1 - \pi_y}

    Least where the wrong classes share what is left evenly; it has no term of its own for the
    right one but the guiding factor.

    Args:
        logits: q, shape (B, C), C >= 3 (with 2 the one wrong class has all and the loss is 0).
        labels: y, int64, shape (B,).
        alpha: the guiding exponent.
        validate: also look for NaN, inf and labels out of range (waits for the device).

    Returns:
        Loss per sample, shape (B,), in [-log(C - 1) / log C, 0].

    Reference: Chen et al., *Improving Adversarial Robustness via Guided Complement Entropy* (2019).
    """
    _check(logits, labels, validate)
    index = labels[:, None]
    log_pi_y = logits.log_softmax(1).gather(1, index)[:, 0]
    # g is a softmax over the other classes: exact where 1 - pi_y would round to 0.
    log_g = logits.scatter(1, index, -math.inf).log_softmax(1)
    log_g = log_g.scatter(1, index, 0.0)
    g = log_g.exp().scatter(1, index, 0.0)
    return (alpha * log_pi_y).exp() * (g * log_g).sum(1) / math.log(logits.shape[1])


def mmc_loss(logits: Tensor, labels: Tensor, *, validate: bool = False) -> Tensor:
    r"""Max-Mahalanobis centre loss, one value per sample.

    .. math:: \|z - s \mu_y\|^2 = -q_y

    for the logits of :class:`robustpolicy.models.MaxMahalanobis`. There is no softmax in it: other
    classes play no part, the features are drawn to their own centre. The publication halves it, its
    code does not, nor do we; the learning rate makes up for it.

    Args:
        logits: q, squared distances to the centres times -1, shape (B, C).
        labels: y, int64, shape (B,).
        validate: also look for NaN, inf and labels out of range (waits for the device).

    Returns:
        Loss per sample, shape (B,), never negative for logits of that layer.

    Reference: Pang et al., *Rethinking Softmax Cross-Entropy Loss for Adversarial Robustness*
    (2020).
    """
    _check(logits, labels, validate)
    return -logits.gather(1, labels[:, None])[:, 0]


class PCLoss(nn.Module):
    """:func:`pc_loss` as a module, after epochs of cross-entropy.

    Args:
        margin: xi in [0, 1].
        constraint: c >= 0.
        warmup: epochs of cross-entropy before; :meth:`observe` counts them.
    """

    def __init__(self, margin: float = 0.995, constraint: float = 0.05, *, warmup: int = 0) -> None:
        super().__init__()
        if not 0 <= margin <= 1 or not 0 <= constraint < math.inf:
            raise UserError(
                f"margin is {margin:g} and constraint {constraint:g}; give a margin in [0, 1] and "
                "a finite constraint >= 0"
            )
        self.margin, self.constraint, self.warmup = margin, constraint, warmup
        self.epochs = 0

    @property
    def stage(self) -> int:
        """1 while cross-entropy trains, then 2."""
        return 1 if self.epochs < self.warmup else 2

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Mean loss of a batch."""
        if self.stage == 1:
            return nn.functional.cross_entropy(logits, labels)
        return pc_loss(logits, labels, margin=self.margin, constraint=self.constraint).mean()

    def observe(self, accuracy: float) -> None:
        """Count an epoch; the accuracy decides nothing here."""
        self.epochs += 1

    def get_extra_state(self) -> Tensor:
        """The epochs seen."""
        return torch.tensor(self.epochs)

    def set_extra_state(self, state: Tensor) -> None:
        """Restore the epochs seen from a ``state_dict``."""
        self.epochs = int(state)


class GCELoss(nn.Module):
    """:func:`gce_loss` as a module.

    Args:
        alpha: the guiding exponent, > 0.
    """

    def __init__(self, alpha: float = 1 / 3) -> None:
        super().__init__()
        if not 0 < alpha < math.inf:
            raise UserError(f"alpha is {alpha:g}; give an exponent > 0, such as 0.333")
        self.alpha = alpha

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Mean loss of a batch."""
        return gce_loss(logits, labels, alpha=self.alpha).mean()


class MMCLoss(nn.Module):
    """:func:`mmc_loss` as a module, for a model that ends in ``MaxMahalanobis``."""

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Mean loss of a batch."""
        return mmc_loss(logits, labels).mean()


def _check(logits: Tensor, labels: Tensor, validate: bool) -> None:
    check_shapes(logits, labels)
    if validate:
        check_values(logits, labels)
