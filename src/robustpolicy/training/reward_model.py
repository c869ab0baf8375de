"""Rewards where labels are missing: a trained classifier judges each action."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from robustpolicy.errors import UserError
from robustpolicy.losses.validation import Amount, check_amounts

#: The label of a sample that has none, in a batch where others have theirs.
UNLABELLED = -1


class RewardModel:
    r"""What a teacher expects each action to earn; a ``reward_fn`` for the policy losses.

    With the teacher's belief p over the true class y, Eq. 3 in expectation:

    .. math:: r(s, a) = p_a r_1(a) - \sum_{y \ne a} p_y r_2(y)

    For two numbers that is :math:`r_1 p_a - r_2 (1 - p_a)`. A teacher that is certain gives the
    rewards of its label, and so the labelled loss. Where labels are known, they are used.

    Args:
        teacher: a trained classifier; copied, frozen, and put in eval mode.
        penalty: r2 >= 0 of a wrong action; a number, or one per true class, shape (C,).
        reward: r1 >= 0 of a correct action; likewise.
        hard: take the teacher's first choice as if it were the label.

    Raises:
        UserError: a negative amount, or both zero.

    Example:
        >>> from robustpolicy import PolicyLoss
        >>> teacher, images = nn.Linear(5, 3), torch.randn(8, 5)
        >>> loss_fn = PolicyLoss(actions="sampled", reward_fn=RewardModel(teacher))
        >>> loss_fn(torch.zeros(8, 3, requires_grad=True), None, images).shape
        torch.Size([])
    """

    def __init__(
        self,
        teacher: nn.Module,
        penalty: Amount = 1.0,
        reward: Amount = 1.0,
        *,
        hard: bool = False,
    ) -> None:
        check_amounts(reward, penalty)
        # A copy: the teacher may go on to train elsewhere. Not a module: no loss should save it.
        self.teacher = copy.deepcopy(teacher).eval().requires_grad_(False)
        self.penalty = penalty
        self.reward = reward
        self.hard = hard

    def __call__(self, inputs: Tensor | None, labels: Tensor | None = None) -> Tensor:
        """Rewards of every action, shape (B, C).

        Args:
            inputs: what the teacher sees, shape (B, ...), on its device.
            labels: int64, shape (B,), ``UNLABELLED`` (-1) where there is none; None for none.

        Raises:
            UserError: no inputs, or amounts that do not fit the teacher's classes.
        """
        if inputs is None:
            raise UserError("inputs is None; a reward model looks at them: loss_fn(logits, y, x)")
        with torch.no_grad():
            logits = self.teacher(inputs)
            belief = logits.softmax(1, dtype=torch.promote_types(logits.dtype, torch.float32))
            if self.hard:
                belief = _one_hot(logits.argmax(1), belief)
            if labels is not None:
                known = (labels != UNLABELLED)[:, None]
                belief = torch.where(known, _one_hot(labels.clamp(min=0), belief), belief)
            return self._expected(belief)

    def _expected(self, belief: Tensor) -> Tensor:
        """Eq. 3 under a belief over the true class, shape (B, C)."""
        check_amounts(self.reward, self.penalty, belief.shape[1])
        gain = torch.as_tensor(self.reward).to(belief) * belief
        loss = torch.as_tensor(self.penalty).to(belief) * belief
        return gain + loss - loss.sum(1, keepdim=True)


def _one_hot(labels: Tensor, like: Tensor) -> Tensor:
    return torch.zeros_like(like).scatter_(1, labels[:, None], 1)
