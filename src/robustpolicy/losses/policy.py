r"""The policy loss (Eq. 4) and the alternative, or warm-up, loss (Eq. 12).

Both take a classifier as a policy :math:`\pi = \mathrm{softmax}(q)` over class labels. An action
is a predicted class; it earns ``reward`` where it equals the label and ``-penalty`` elsewhere
(Eq. 3). The paper's :math:`\lambda` is ``penalty / reward``.

Reference: Kim, *Reinforcement-based Training Approach for Improving Adversarial Robustness
without Sacrificing Accuracy*. Where this follows the intent rather than the print (Eq. 12's last
term stands outside its bracket), docs/equations.md says so.
"""

from __future__ import annotations

from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

from robustpolicy.draws import RandomSource, uniform
from robustpolicy.errors import UserError
from robustpolicy.losses.rewards import expected_rewards, outcome, pick
from robustpolicy.losses.validation import Amount, check_amounts, check_shapes, check_values

#: How an action is taken from the policy.
ACTIONS = ("greedy", "sampled", "expected")
REDUCTIONS = ("none", "mean", "sum")


def policy_loss(
    logits: Tensor,
    labels: Tensor | None,
    *,
    reward: Amount = 1.0,
    penalty: Amount = 1.0,
    actions: str = "greedy",
    rewards: Tensor | None = None,
    generator: RandomSource = None,
    reduction: str = "none",
    validate: bool = False,
) -> Tensor:
    r"""Policy loss of Eq. 4, :math:`\ell = -r(s, a) \log \pi_a`, one value per sample.

    Args:
        logits: unnormalised scores, shape (B, C), C >= 2, any float dtype.
        labels: true classes, int64, shape (B,). May be None where ``rewards`` is given.
        reward: r1 >= 0 for a correct action; a number, or one per true class, shape (C,).
        penalty: r2 >= 0 for a wrong action (its reward is -r2); a number or shape (C,).
        actions: ``"greedy"`` takes argmax of pi (the paper's second stage; ties: any maximum);
            ``"sampled"`` draws a ~ pi, no gradient through the draw (REINFORCE);
            ``"expected"`` is the exact expectation of ``"sampled"``, with pi held constant in it.
        rewards: r(s, a) for every action, shape (B, C), any sign, instead of the two amounts.
        generator: source of the draws of ``"sampled"``; the global one if None.
        reduction: ``"none"`` gives one loss per sample; ``"mean"`` and ``"sum"`` are a little
            faster than reducing that.
        validate: also look for NaN, inf and labels out of range (waits for the device).

    Returns:
        Loss per sample, shape (B,), or a scalar if reduced; the dtype of ``logits``. Can be
        negative: a wrong greedy action gives ``penalty * log pi_a``, in [-penalty * log C, 0].

    Raises:
        UserError: a wrong shape or dtype, a negative amount, both amounts zero, unknown actions.

    Example:
        >>> logits = torch.tensor([[2.0, 0.0], [2.0, 0.0]])
        >>> policy_loss(logits, torch.tensor([0, 1]), penalty=0.5)
        tensor([ 0.1269, -0.0635])
    """
    check_call(logits, labels, reward, penalty, actions, rewards, reduction, validate)
    rewards = None if rewards is None else rewards.detach()  # not a way to train a reward model
    if actions == "expected":
        # pi is held constant; what is left is a cross-entropy with soft, signed targets.
        targets = expected_rewards(logits, labels, reward, penalty, rewards)
        return _soft_cross_entropy(logits, targets, reduction)
    a = _take(logits, actions, generator)
    correct, gain, loss = outcome(a, logits, labels, reward, penalty, rewards)
    surprise = F.cross_entropy(logits, a, reduction="none")  # (B,): -log pi_a
    # Autocast makes cross-entropy float32 whatever the logits are.
    earned = pick(correct, gain, -loss, logits.dtype).to(surprise.dtype)
    if reduction == "none":
        return surprise * earned
    # One node of autograd in place of a product and a mean.
    return torch.dot(surprise, earned / len(earned) if reduction == "mean" else earned)


def alternative_loss(
    logits: Tensor,
    labels: Tensor | None,
    *,
    reward: Amount = 1.0,
    penalty: Amount = 1.0,
    actions: str = "sampled",
    rewards: Tensor | None = None,
    generator: RandomSource = None,
    reduction: str = "none",
    validate: bool = False,
) -> Tensor:
    r"""Alternative loss of Eq. 12, the paper's warm-up, one value per sample.

    A correct action gives :math:`-r_1 \log \pi_y`. A wrong action a gives
    :math:`-\frac{r_2}{C-1} \sum_{i \ne a} \log \pi_i`, which raises every class but the one
    wrongly taken. With ``rewards``, an action is wrong where its reward is negative.

    Arguments, errors and shapes are those of :func:`policy_loss`. The result is never negative
    and, unlike there, not bounded.

    Example:
        >>> logits = torch.zeros(1, 4)
        >>> alternative_loss(logits, torch.tensor([1]), penalty=0.5, actions="greedy")
        tensor([0.6931])
    """
    check_call(logits, labels, reward, penalty, actions, rewards, reduction, validate)
    rewards = None if rewards is None else rewards.detach()  # not a way to train a reward model
    # Either way the loss is a cross-entropy with soft, constant targets, shape (B, C): one pass
    # of autograd instead of five.
    others = logits.shape[1] - 1
    if actions == "expected":
        targets = expected_rewards(logits, labels, reward, penalty, rewards)
        wrong = targets.clamp(max=0)
        wrong.sub_(wrong.sum(1, keepdim=True))
        targets.clamp_(min=0).add_(wrong, alpha=1 / others)
    else:
        a = _take(logits, actions, generator)
        correct, gain, loss = outcome(a, logits, labels, reward, penalty, rewards)
        spread = pick(correct, 0.0, loss / others, logits.dtype)
        targets = spread[:, None].expand(logits.shape).contiguous()
        targets.scatter_(1, a[:, None], pick(correct, gain, 0.0, logits.dtype)[:, None])
    return _soft_cross_entropy(logits, targets, reduction)


def sample_actions(
    logits: Tensor, generator: RandomSource = None, draws: int | None = None
) -> Tensor:
    """Draw actions from softmax(logits) by the inverse CDF.

    Args:
        logits: shape (B, C).
        generator: source of the one uniform number an action; the global one if None.
        draws: K independent actions a sample; one if None.

    Returns:
        Class indices, int64, shape (B,), or (K, B) with ``draws``. A class of probability 0 is
        never drawn.
    """
    dtype = torch.promote_types(logits.dtype, torch.float32)  # a bfloat16 sum loses classes
    u = uniform((len(logits), draws or 1), generator, logits.device, dtype)
    a = invert_cdf(logits, u)
    return a[:, 0] if draws is None else a.T


def invert_cdf(logits: Tensor, u: Tensor) -> Tensor:
    """The classes at which the cumulative softmax(logits) passes numbers in [0, 1).

    Args:
        logits: shape (..., C).
        u: K numbers a sample, shape (..., K), in the dtype in which to sum, float32 or wider.

    Returns:
        Class indices, int64, the shape of ``u``. A class of probability 0 is never taken.
    """
    cdf = logits.detach().softmax(-1, dtype=u.dtype).cumsum_(-1)
    # Rounding can leave the last sum below or above 1: scale by it, so that u stays inside.
    # The first class whose sum exceeds u: a class of zero width is stepped over.
    a = torch.searchsorted(cdf, u * cdf[..., -1:], right=True)
    return a.clamp_(max=logits.shape[-1] - 1)


def _soft_cross_entropy(logits: Tensor, targets: Tensor, reduction: str) -> Tensor:
    """Cross-entropy with soft, signed, constant targets of shape (B, C)."""
    small = logits.numel() <= 1 << 16  # one long float32 sum would lose digits
    if reduction == "none" or not small or logits.dtype not in (torch.float32, torch.float64):
        return F.cross_entropy(logits, targets, reduction=reduction)
    # One dot product over the whole batch: at (128, 10), calls cost more than arithmetic.
    log_pi = logits.log_softmax(1)
    total = torch.dot(targets.reshape(-1), log_pi.reshape(-1))
    return total * (-1 / max(len(logits), 1) if reduction == "mean" else -1)


def _take(logits: Tensor, actions: str, generator: RandomSource) -> Tensor:
    return _argmax(logits.detach()) if actions == "greedy" else sample_actions(logits, generator)


def _argmax(logits: Tensor) -> Tensor:
    """Argmax over classes, which torch does not vectorise on the CPU where there are many."""
    classes = logits.shape[1]
    block = _block(classes) if classes >= 512 and logits.device.type == "cpu" else None
    if block is None:
        return logits.argmax(1)
    rows = logits.view(-1, classes // block, block)  # (B, C / block, block)
    column = rows.amax(1).argmax(1)  # the maximum over rows is vectorised
    row = rows.gather(2, column[:, None, None].expand(-1, rows.shape[1], 1))[:, :, 0].argmax(1)
    return row * block + column


@lru_cache
def _block(classes: int) -> int | None:
    # Measured at (4096, 1000): rows of 100 take half the time of argmax, rows of 125 save little.
    return next((b for b in range(128, 31, -4) if classes % b == 0), None)


def check_call(
    logits: Tensor,
    labels: Tensor | None,
    reward: Amount,
    penalty: Amount,
    actions: str,
    rewards: Tensor | None,
    reduction: str,
    validate: bool,
) -> None:
    """Check what a loss is called with.

    Raises:
        UserError: a wrong shape or dtype, a bad amount, an unknown name; values if ``validate``.
    """
    check_shapes(logits, labels)
    if actions not in ACTIONS:
        raise UserError(f"actions is {actions!r}; choose one of {', '.join(ACTIONS)}")
    if reduction not in REDUCTIONS:
        raise UserError(f"reduction is {reduction!r}; choose one of {', '.join(REDUCTIONS)}")
    if rewards is None:
        if labels is None:
            raise UserError("labels is None; give labels, or a (B, C) tensor as rewards")
        check_amounts(reward, penalty, logits.shape[1])
    elif rewards.shape != logits.shape:
        raise UserError(
            f"rewards have shape {tuple(rewards.shape)} for logits {tuple(logits.shape)}; "
            "give one reward for every action of every sample"
        )
    if validate:
        check_values(logits, labels)
        if rewards is not None and not bool(torch.isfinite(rewards).all()):
            raise UserError("rewards hold NaN or inf; give finite rewards")
