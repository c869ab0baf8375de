"""The losses as ``torch.nn.Module``: in place of ``nn.CrossEntropyLoss`` in any training loop."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from robustpolicy.draws import Source
from robustpolicy.errors import UserError
from robustpolicy.losses.policy import ACTIONS, REDUCTIONS, alternative_loss, policy_loss
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
        generator: Source = None,
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
        rewards = self.reward_fn(inputs, labels) if self.reward_fn else None
        if self.reward_fn and not isinstance(rewards, Tensor):
            raise UserError(f"reward_fn returned {type(rewards).__name__}; it must return (B, C)")
        return self.loss(
            logits,
            labels,
            reward=self._get("reward"),
            penalty=self._get("penalty"),
            actions=self.actions,
            rewards=rewards,
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

    def _get(self, name: str) -> Amount:
        return self._amounts[name] if name in self._amounts else getattr(self, f"_{name}")

    @staticmethod
    def loss(*args: Any, **kwargs: Any) -> Tensor:
        """The functional form; each subclass names its own."""
        raise TypeError("RewardLoss is a base class: use PolicyLoss or AlternativeLoss")


class PolicyLoss(RewardLoss):
    """Eq. 4 as a module; see :func:`robustpolicy.policy_loss`."""

    loss = staticmethod(policy_loss)


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
