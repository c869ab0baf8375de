"""The losses of all members at once, out of one set of logits."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from robustpolicy.losses.policy import invert_cdf
from robustpolicy.training.recipe import CrossEntropy, TwoStage


class Terms(NamedTuple):
    """What a member is trained with in its present stage.

    Attributes:
        actions: how actions are taken; ``"label"`` is cross-entropy, whose action is the label.
        alternative: Eq. 12 in place of Eq. 4.
        reward: of a correct action.
        penalty: of a wrong one.
    """

    actions: Literal["label", "greedy", "sampled", "expected"]
    alternative: bool
    reward: float
    penalty: float


def present_terms(loss: CrossEntropy | TwoStage, stage: int | None) -> Terms:
    """The terms of a recipe's loss in a stage; None for a loss without stages."""
    if isinstance(loss, CrossEntropy) or (stage == 1 and loss.warmup == "cross-entropy"):
        return Terms("label", False, 1.0, 0.0)
    if stage == 1:
        return Terms(loss.warmup_actions, True, loss.reward, loss.warmup_penalty)
    return Terms(loss.actions, False, loss.reward, loss.penalty)


class Objective:
    r"""Losses of M members, each with its own terms.

    Each of these losses is a cross-entropy with soft, signed targets T that are held constant,
    :math:`-\sum_i T_i \log \pi_i`: for Eq. 4 with action a, T is r(s, a) at a; for Eq. 12 a wrong
    action puts :math:`r_2 / (C - 1)` everywhere else. So members differ in constants alone, and
    nothing of one reaches the gradient of another.

    Args:
        terms: one a member.
        like: a tensor of the dtype and device of the logits.
    """

    def __init__(self, terms: Sequence[Terms], like: Tensor) -> None:
        def column(values: list[float] | list[bool]) -> Tensor:
            dtype = torch.bool if isinstance(values[0], bool) else like.dtype
            return torch.tensor(values, dtype=dtype, device=like.device)[:, None]  # (M, 1)

        self.kinds = {term.actions for term in terms}
        self.sampled = [number for number, term in enumerate(terms) if term.actions == "sampled"]
        self._is = {kind: column([term.actions == kind for term in terms]) for kind in self.kinds}
        self._alternative = column([term.alternative for term in terms])
        self._reward = column([term.reward for term in terms])
        self._penalty = column([term.penalty for term in terms])

    def __call__(self, logits: Tensor, labels: Tensor, u: Tensor) -> Tensor:
        """Mean loss of each member, shape (M,).

        Args:
            logits: shape (M, B, C).
            labels: int64, shape (M, B).
            u: numbers in [0, 1) from which actions are sampled, shape (M, B); those of members
                that sample nothing are not used.
        """
        targets = self.targets(logits.detach(), labels, u)
        return -(targets * logits.log_softmax(2)).sum((1, 2)) / logits.shape[1]

    def targets(self, logits: Tensor, labels: Tensor, u: Tensor) -> Tensor:
        """The constants T, shape (M, B, C); arguments as above."""
        others = logits.shape[2] - 1
        a = labels
        if "greedy" in self.kinds:
            a = torch.where(self._is["greedy"], logits.argmax(2), a)
        if "sampled" in self.kinds:
            a = torch.where(self._is["sampled"], invert_cdf(logits, u[:, :, None])[..., 0], a)
        # T of the one action: a value at it and another one everywhere else, both (M, B).
        correct = a == labels
        at_wrong = torch.where(self._alternative, 0.0, -self._penalty)
        elsewhere = torch.where(self._alternative, self._penalty / others, 0.0)
        at = torch.where(correct, self._reward, at_wrong)
        elsewhere = torch.where(correct, 0.0, elsewhere)
        targets = elsewhere[:, :, None].expand(logits.shape).contiguous()
        targets.scatter_(2, a[:, :, None], at[:, :, None])
        if "expected" in self.kinds:
            expected = self._expected(logits, labels)
            targets = torch.where(self._is["expected"][:, :, None], expected, targets)
        return targets

    def _expected(self, logits: Tensor, labels: Tensor) -> Tensor:
        """The mean of T over all actions, each by its probability."""
        pi = logits.softmax(2)
        index = labels[:, :, None]
        right = pi.gather(2, index) * self._reward[:, :, None]
        wrong = (pi * self._penalty[:, :, None]).scatter_(2, index, 0.0)
        spread = (wrong.sum(2, keepdim=True) - wrong) / (logits.shape[2] - 1)
        targets = torch.where(self._alternative[:, :, None], spread, -wrong)
        return targets.scatter_add_(2, index, right)
