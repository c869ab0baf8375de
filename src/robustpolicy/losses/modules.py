"""The losses as ``torch.nn.Module``: in place of ``nn.CrossEntropyLoss`` in any training loop."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from robustpolicy.draws import RandomSource
from robustpolicy.errors import UserError
from robustpolicy.losses.policy import ACTIONS, REDUCTIONS, alternative_loss, policy_loss
from robustpolicy.losses.reinforce import (
    Rollout,
    check_options,
    policy_entropy,
    rollout,
    rollout_loss,
    value_loss,
)
from robustpolicy.losses.validation import Amount, check_amounts

#: r(s, a) of every action from the inputs and the labels (None if unlabelled): shape (B, C).
RewardFunction = Callable[[Tensor | None, Tensor | None], Tensor]


class RewardLoss(nn.Module):
    """Common part of the module forms: rewards, actions, reduction.

    Args:
        penalty: r2 >= 0 of a wrong action; a number, or one per true class, shape (C,).
        reward: r1 >= 0 of a correct action; likewise.
        actions: ``"greedy"``, ``"sampled"`` or ``"expected"``.
        reward_fn: ``reward_fn(inputs, labels) -> (B, C)`` instead of the two amounts.
        reduction: ``"mean"``, ``"sum"`` or ``"none"``.
        generator: source of the draws of ``"sampled"``; the global one if None.
        validate: look at every value of each call (waits for the device).

    Raises:
        UserError: a negative amount, both zero, or an unknown name.
    """

    def __init__(
        self,
        penalty: float | Sequence[float] | Tensor = 1.0,
        reward: float | Sequence[float] | Tensor = 1.0,
        *,
        actions: str = "greedy",
        reward_fn: RewardFunction | None = None,
        reduction: str = "mean",
        generator: RandomSource = None,
        validate: bool = False,
    ) -> None:
        super().__init__()
        check_amounts(_amount(reward), _amount(penalty))
        if actions not in ACTIONS:
            raise UserError(f"actions is {actions!r}; choose one of {', '.join(ACTIONS)}")
        if reduction not in REDUCTIONS:
            raise UserError(f"reduction is {reduction!r}; choose one of {', '.join(REDUCTIONS)}")
        # Amounts per class move with the module; they are settings, not state.
        self._amounts: dict[str, float] = {}
        for name, given in (("reward", reward), ("penalty", penalty)):
            amount = _amount(given)
            if isinstance(amount, Tensor):
                self.register_buffer(f"_{name}", amount, persistent=False)
            else:
                self._amounts[name] = amount
        self.actions = actions
        self.reward_fn = reward_fn
        self.reduction = reduction
        self.generator = generator
        self.validate = validate

    def forward(
        self, logits: Tensor, labels: Tensor | None, inputs: Tensor | None = None
    ) -> Tensor:
        """Loss of a batch: a scalar, or (B,) with ``reduction="none"``.

        Args:
            logits: shape (B, C).
            labels: int64, shape (B,); None where ``reward_fn`` needs none.
            inputs: handed to ``reward_fn``; not used otherwise.
        """
        return self.loss(
            logits,
            labels,
            reward=self._get("reward"),
            penalty=self._get("penalty"),
            actions=self.actions,
            rewards=self._rewards(inputs, labels) if self.reward_fn else None,
            generator=self.generator,
            reduction=self.reduction,
            validate=self.validate,
        )

    def check_classes(self, classes: int) -> None:
        """Raise UserError where amounts per class do not fit this number of classes."""
        check_amounts(self._get("reward"), self._get("penalty"), classes)

    def extra_repr(self) -> str:
        """Settings shown by ``print(module)``."""
        return (
            f"actions={self.actions}, reward={self._get('reward')}, penalty={self._get('penalty')}"
        )

    def _rewards(self, inputs: Tensor | None, labels: Tensor | None) -> Tensor | None:
        """The table of ``reward_fn``, if there is one."""
        if self.reward_fn is None:
            return None
        rewards = self.reward_fn(inputs, labels)
        if not isinstance(rewards, Tensor):
            raise UserError(f"reward_fn returned {type(rewards).__name__}; it must return (B, C)")
        return rewards

    def _get(self, name: str) -> Amount:
        return self._amounts[name] if name in self._amounts else getattr(self, f"_{name}")

    @staticmethod
    def loss(*args: Any, **kwargs: Any) -> Tensor:
        """The functional form; each subclass names its own."""
        raise TypeError("RewardLoss is a base class: use PolicyLoss or AlternativeLoss")


class PolicyLoss(RewardLoss):
    r"""Eq. 4 as a module; see :func:`robustpolicy.policy_loss`. Options go beyond the paper.

    Actions drawn from the policy can be taken several a sample, judged against a baseline, and
    learnt from over several passes: call :meth:`begin` before each batch, then each forward pass
    learns from the actions of the first.

    Args:
        penalty: r2 >= 0 of a wrong action; a number, or one per true class, shape (C,).
        reward: r1 >= 0 of a correct action; likewise.
        draws: actions a sample; more than one needs sampled actions.
        baseline: what is subtracted from the rewards of sampled actions: ``"none"``, ``"mean"``,
            ``"group"`` (see :func:`robustpolicy.losses.rollout`), or ``"value"``: the values given
            to each call, which learn the rewards.
        entropy: weight of the policy's entropy, subtracted from the loss, with any actions.
        clip: PPO's bound on the ratio over several passes; 0 for Eq. 4 at each.
        value_weight: weight of the critic's loss, :math:`\frac 1 2 (V - r)^2`.
        passes: steps that the loop takes on each batch; for the loop to read.
        **common: the other arguments of :class:`RewardLoss`.

    Raises:
        UserError: as :class:`RewardLoss`; an option out of its range, or without sampled
            actions where it needs them.

    Example:
        >>> model = nn.Linear(5, 3)
        >>> optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        >>> loss_fn = PolicyLoss(actions="sampled", baseline="mean", clip=0.2, passes=3)
        >>> for inputs, labels in [(torch.randn(8, 5), torch.arange(8) % 3)]:
        ...     loss_fn.begin()  # the first pass acts, the others learn from the same actions
        ...     for _ in range(loss_fn.passes):
        ...         optimizer.zero_grad()
        ...         loss_fn(model(inputs), labels).backward()
        ...         optimizer.step()
    """

    loss = staticmethod(policy_loss)

    def __init__(
        self,
        penalty: float | Sequence[float] | Tensor = 1.0,
        reward: float | Sequence[float] | Tensor = 1.0,
        *,
        draws: int = 1,
        baseline: str = "none",
        entropy: float = 0.0,
        clip: float = 0.0,
        value_weight: float = 1.0,
        passes: int = 1,
        **common: Any,
    ) -> None:
        super().__init__(penalty, reward, **common)
        check_options(
            self.actions,
            draws=draws,
            baseline=baseline,
            entropy=entropy,
            clip=clip,
            value_weight=value_weight,
            passes=passes,
        )
        self.draws = draws
        self.baseline = baseline
        self.entropy = entropy
        self.clip = clip
        self.value_weight = value_weight
        self.passes = passes
        # Whether the actions must be kept apart from the loss; if not, Eq. 4 takes its fast way.
        self._apart = draws > 1 or baseline != "none" or clip > 0
        self._begun = False
        self._taken: Rollout | None = None

    def begin(self) -> None:
        """Forget the actions of the former batch: the next call acts, later ones learn from that.

        Without any such call, each forward pass acts anew. Greedy and expected actions follow from
        the logits, so for them this changes nothing.
        """
        self._begun = self.actions == "sampled"
        self._taken = None

    def forward(
        self,
        logits: Tensor,
        labels: Tensor | None,
        inputs: Tensor | None = None,
        values: Tensor | None = None,
    ) -> Tensor:
        """Loss of a batch, as in :class:`RewardLoss`.

        Args:
            logits: shape (B, C).
            labels: int64, shape (B,); None where ``reward_fn`` needs none.
            inputs: handed to ``reward_fn``; not used otherwise.
            values: a critic's V(s), shape (B,), for ``baseline="value"``; not used otherwise.
        """
        if self._apart or self._begun:
            loss = self._reduce(self._learn(logits, labels, inputs, values))
        else:
            loss = super().forward(logits, labels, inputs)
        if self.entropy > 0:
            loss = loss - self.entropy * self._reduce(policy_entropy(logits))
        return loss

    def _learn(
        self, logits: Tensor, labels: Tensor | None, inputs: Tensor | None, values: Tensor | None
    ) -> Tensor:
        """Loss of each sample, of actions taken now or earlier."""
        critic = values if self.baseline == "value" else None
        if self.baseline == "value" and critic is None:
            raise UserError(
                "values is None; a value baseline needs a critic's estimates, shape (B,), such as "
                "those of ActorCritic.both"
            )
        taken = self._taken
        if taken is None:
            taken = rollout(
                logits,
                labels,
                reward=self._get("reward"),
                penalty=self._get("penalty"),
                rewards=self._rewards(inputs, labels),
                draws=self.draws,
                baseline=self.baseline if critic is None else critic,
                generator=self.generator,
                validate=self.validate,
            )
            self._taken = taken if self._begun else None
        loss = rollout_loss(logits, taken, clip=self.clip)
        if critic is not None and self.value_weight > 0:
            loss = loss + self.value_weight * value_loss(critic, taken)
        return loss

    def _reduce(self, loss: Tensor) -> Tensor:
        if self.reduction == "none":
            return loss
        return loss.mean() if self.reduction == "mean" and len(loss) else loss.sum()


class AlternativeLoss(RewardLoss):
    """Eq. 12 as a module; see :func:`robustpolicy.alternative_loss`."""

    loss = staticmethod(alternative_loss)


def _amount(given: float | Sequence[float] | Tensor) -> Amount:
    if isinstance(given, Tensor):
        return given.detach().clone() if given.ndim else float(given)
    if isinstance(given, (int, float)):
        return float(given)
    try:
        return torch.tensor(given, dtype=torch.get_default_dtype())
    except (TypeError, ValueError):
        raise UserError(f"{given!r} is no amount; give a number, or one a class") from None
