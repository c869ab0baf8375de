r"""REINFORCE with what came after it: baselines, several actions a sample, clipped ratios, entropy.

All of it refines the sampled policy loss of Eq. 4. Actions are taken once (:func:`rollout`) and
then learnt from, once or several times (:func:`rollout_loss`):

.. math:: A_k = r(s, a_k) - b, \qquad a_k \sim \pi_{old}, \qquad
    \ell = -\frac 1 K \sum_k A_k \log \pi_{a_k}

The baseline b may depend on everything but the action itself; then the expected gradient is that
of Eq. 4 (Williams 1992), and only its variance changes. Both averages below therefore leave the
action out ("leave one out"). What each option did on MNIST: docs/rl.md.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from robustpolicy.draws import RandomSource
from robustpolicy.errors import UserError
from robustpolicy.losses.policy import check_call, sample_actions
from robustpolicy.losses.rewards import earned
from robustpolicy.losses.validation import Amount

#: What is subtracted from the rewards. ``"value"`` is a critic's estimate, a tensor in `rollout`.
BASELINES = ("none", "mean", "group", "value")

#: Least log of a ratio that would overflow float32 with its gradient; no sampled action is near.
_LARGE = 60.0


@dataclass(frozen=True)
class Rollout:
    """Actions that were taken, and what they earned: constants for every pass over the batch.

    Attributes:
        actions: K actions a sample, int64, shape (K, B).
        rewards: r(s, a) of each, shape (K, B), float32 or wider.
        advantages: rewards less the baseline, shape (K, B).
        log_pi: log-probability of each under the policy that took it, shape (K, B).
    """

    actions: Tensor
    rewards: Tensor
    advantages: Tensor
    log_pi: Tensor


def rollout(
    logits: Tensor,
    labels: Tensor | None,
    *,
    reward: Amount = 1.0,
    penalty: Amount = 1.0,
    rewards: Tensor | None = None,
    draws: int = 1,
    baseline: str | Tensor = "none",
    generator: RandomSource = None,
    validate: bool = False,
) -> Rollout:
    r"""Act: draw actions from the policy, reward them, subtract a baseline. No gradient.

    Args:
        logits: unnormalised scores, shape (B, C), C >= 2, any float dtype.
        labels: true classes, int64, shape (B,). May be None where ``rewards`` is given.
        reward: r1 >= 0 for a correct action; a number, or one per true class, shape (C,).
        penalty: r2 >= 0 for a wrong action; likewise.
        rewards: r(s, a) for every action, shape (B, C), instead of the two amounts.
        draws: K >= 1, independent actions a sample.
        baseline: ``"none"``: b = 0. ``"mean"``: the mean reward of the batch's other actions
            (0 where there are none). ``"group"``: the mean of the same sample's other actions,
            K >= 2 (Kool et al. 2019; GRPO, Shao et al. 2024, keeps the action in and divides by
            the standard deviation, which is biased). A tensor, shape (B,): a critic's estimate
            V(s) (actor-critic, Sutton and Barto 2018, 13.5); no gradient goes into it.
        generator: source of the draws; the global one if None.
        validate: also look for NaN, inf and labels out of range (waits for the device).

    Raises:
        UserError: as :func:`robustpolicy.policy_loss`; no draws, a group of one, an unknown
            baseline, values of another shape.
    """
    check_call(logits, labels, reward, penalty, "sampled", rewards, "none", validate)
    name = "value" if isinstance(baseline, Tensor) else baseline
    check_options("sampled", draws=draws, baseline=name)
    actions = sample_actions(logits, generator, draws)
    wide = logits.detach().to(torch.promote_types(logits.dtype, torch.float32))
    table = None if rewards is None else rewards.detach()
    r = earned(actions, wide, labels, reward, penalty, table)
    return Rollout(actions, r, r - _baseline(r, baseline), _log_pi(wide, actions))


def rollout_loss(logits: Tensor, taken: Rollout, *, clip: float = 0.0) -> Tensor:
    r"""Policy loss of actions already taken, averaged over the K draws.

    Without ``clip``, Eq. 4: :math:`-A \log \pi_a`. With it, the clipped surrogate of PPO (Schulman
    et al. 2017, Eq. 7), whose ratio is the new policy's probability of the action over that of the
    policy that took it:

    .. math:: -\min(\rho A, \mathrm{clip}(\rho, 1 - c, 1 + c) A), \qquad
        \rho = \pi_a / \pi_{old, a}

    On the first pass the ratio is 1, and the gradient that of Eq. 4.

    Args:
        logits: of the present policy, shape (B, C).
        taken: from :func:`rollout`, of the same batch.
        clip: c >= 0; 0 is Eq. 4, infinity the ratio without a clip.

    Returns:
        Loss per sample, shape (B,), float32 or wider.

    Raises:
        UserError: the actions are of another batch.
    """
    if taken.actions.shape[1:] != logits.shape[:1]:
        raise UserError(
            f"the actions were taken on {taken.actions.shape[1]} samples, these logits are of "
            f"{len(logits)}; act anew (begin()) before each batch"
        )
    log_pi = _log_pi(logits, taken.actions)  # (K, B)
    if clip == 0:
        return -(taken.advantages * log_pi).mean(0)
    ratio = (log_pi - taken.log_pi).clamp(max=_LARGE).exp()
    clipped = ratio.clamp(1 - clip, 1 + clip)
    return -torch.minimum(ratio * taken.advantages, clipped * taken.advantages).mean(0)


def value_loss(values: Tensor, taken: Rollout) -> Tensor:
    r"""A critic's loss, :math:`\frac 1 2 (V(s) - r)^2`, averaged over the K draws.

    Args:
        values: V(s), shape (B,).
        taken: from :func:`rollout`.

    Returns:
        Loss per sample, shape (B,). Least where V(s) is the expected reward of the policy.
    """
    return 0.5 * (values - taken.rewards).square().mean(0)


def policy_entropy(logits: Tensor) -> Tensor:
    r"""Entropy of the policy, :math:`-\sum_a \pi_a \log \pi_a`, in [0, log C].

    A multiple of it is subtracted from a loss to keep actions from dying out (Williams and Peng
    1991). Its gradient is :math:`-\pi_a (\log \pi_a + H)`.

    Args:
        logits: shape (B, C); a logit of -inf adds nothing.

    Returns:
        Entropy per sample in nats, shape (B,), float32 or wider.

    Example:
        >>> policy_entropy(torch.zeros(1, 4))
        tensor([1.3863])
    """
    log_pi = logits.log_softmax(1, dtype=torch.promote_types(logits.dtype, torch.float32))
    finite = log_pi.clamp(min=torch.finfo(log_pi.dtype).min)  # 0 * -inf is NaN
    return -(log_pi.exp() * finite).sum(1)


def check_options(
    actions: str,
    *,
    draws: int = 1,
    baseline: str = "none",
    entropy: float = 0.0,
    clip: float = 0.0,
    value_weight: float = 1.0,
    passes: int = 1,
) -> None:
    """Check the options of a policy loss.

    Raises:
        UserError: one that is out of its range, or that says nothing about such actions.
    """
    for name, count in (("draws", draws), ("passes", passes)):
        if type(count) is not int or count < 1:
            raise UserError(f"{name} is {count!r}; give a whole number of at least 1")
    for name, amount in (("entropy", entropy), ("value_weight", value_weight)):
        if not 0 <= amount < math.inf:
            raise UserError(f"{name} is {amount:g}; give a finite number >= 0")
    if not clip >= 0:
        raise UserError(f"clip is {clip:g}; give a number >= 0, such as 0.2, or 0 for no ratio")
    if baseline not in BASELINES:
        raise UserError(f"baseline is {baseline!r}; choose one of {', '.join(BASELINES)}")
    if baseline == "group" and draws < 2:
        raise UserError(f"baseline is group with draws {draws}; give at least 2 draws")
    given = {
        "draws": draws > 1,
        "baseline": baseline != "none",
        "clip": clip > 0,
        "passes": passes > 1,
    }
    if actions != "sampled" and any(given.values()):
        name = next(name for name in given if given[name])
        raise UserError(f"{name} needs sampled actions, not {actions}: they alone are drawn")


def _baseline(rewards: Tensor, baseline: str | Tensor) -> Tensor | float:
    """What to subtract from rewards of shape (K, B)."""
    draws, batch = rewards.shape
    if isinstance(baseline, Tensor):
        if baseline.shape != (batch,):
            raise UserError(
                f"values have shape {tuple(baseline.shape)}; give one a sample, shape ({batch},)"
            )
        return baseline.detach().to(rewards.dtype)
    if baseline == "group":
        return (rewards.sum(0) - rewards) / (draws - 1)
    if baseline == "mean" and rewards.numel() > 1:
        return (rewards.sum() - rewards) / (rewards.numel() - 1)
    if baseline == "value":
        raise UserError("a value baseline needs a critic's values, shape (B,); give them")
    return 0.0


def _log_pi(logits: Tensor, actions: Tensor) -> Tensor:
    """Log-probability of each action, shape (K, B)."""
    wide = torch.promote_types(logits.dtype, torch.float32)
    return logits.log_softmax(1, dtype=wide).gather(1, actions.T).T
