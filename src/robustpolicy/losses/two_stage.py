"""The paper's two-stage loss: warm up with Eq. 12, then Eq. 4, never back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from robustpolicy.draws import RandomSource
from robustpolicy.errors import UserError
from robustpolicy.losses.modules import (
    AlternativeLoss,
    PolicyLoss,
    RewardFunction,
)
from robustpolicy.losses.validation import check_shapes, check_values

#: What the first stage trains: Eq. 12, cross-entropy, or nothing (Eq. 4 from the first step).
WARMUPS = ("alternative", "cross-entropy", "none")


class TwoStageLoss(nn.Module):
    """Two-stage policy training in anybody's loop: call it like a loss, tell it the accuracy.

    Stage 1 is the warm-up (Eq. 12 with sampled actions and ``warmup_penalty``). When the accuracy
    given to :meth:`observe` exceeds ``threshold``, stage 2 begins and never ends: Eq. 4 with
    greedy actions and ``penalty``. The stage is part of the ``state_dict``.

    Args:
        penalty: lambda_2, the penalty of Eq. 4; a number, or one per true class, shape (C,).
        warmup_penalty: lambda_1, the penalty of Eq. 12; likewise.
        reward: reward of a correct action in both stages.
        threshold: accuracy in [0, 1) above which stage 2 begins (the paper: 0.8).
        switch_epoch: begin stage 2 after this many calls of :meth:`observe` instead, whatever the
            accuracy (Table 6: 75); 0 leaves it to the threshold.
        warmup: ``"alternative"`` (Eq. 12), ``"cross-entropy"`` or ``"none"`` (the ablations of
            Table 4: with ``"none"`` stage 2 begins at once).
        actions: actions of stage 2; ``"greedy"`` in the paper.
        warmup_actions: actions of stage 1; ``"sampled"`` in the paper.
        reward_fn: ``reward_fn(inputs, labels) -> (B, C)`` instead of reward and penalties.
        reduction: ``"mean"``, ``"sum"`` or ``"none"``.
        generator: source of the draws of sampled actions; the global one if None.
        validate: look at every value of each call (waits for the device).
        **options: of stage 2, beyond the paper: ``draws``, ``baseline``, ``entropy``, ``clip``,
            ``value_weight`` and ``passes`` of :class:`PolicyLoss`.

    Raises:
        UserError: a negative amount, both zero, an unknown name, a threshold outside [0, 1).

    Example:
        >>> loss_fn = TwoStageLoss(penalty=1.5, warmup_penalty=0.75)
        >>> loss_fn.stage, loss_fn.observe(0.81), loss_fn.stage
        (1, True, 2)
    """

    def __init__(
        self,
        penalty: float | Sequence[float] | Tensor = 1.5,
        warmup_penalty: float | Sequence[float] | Tensor = 0.75,
        reward: float | Sequence[float] | Tensor = 1.0,
        *,
        threshold: float = 0.8,
        switch_epoch: int = 0,
        warmup: str = "alternative",
        actions: str = "greedy",
        warmup_actions: str = "sampled",
        reward_fn: RewardFunction | None = None,
        reduction: str = "mean",
        generator: RandomSource = None,
        validate: bool = False,
        **options: Any,
    ) -> None:
        super().__init__()
        if warmup not in WARMUPS:
            raise UserError(f"warmup is {warmup!r}; choose one of {', '.join(WARMUPS)}")
        if not 0 <= threshold < 1:
            raise UserError(f"threshold is {threshold:g}; give an accuracy in [0, 1), such as 0.8")
        if switch_epoch < 0:
            raise UserError(f"switch_epoch is {switch_epoch}; give at least 0")
        self.threshold = threshold
        self.switch_epoch = switch_epoch
        self.epochs = 0
        self.reduction = reduction
        self.stage = 2 if warmup == "none" else 1
        self.policy = PolicyLoss(
            penalty,
            reward,
            actions=actions,
            reward_fn=reward_fn,
            reduction=reduction,
            generator=generator,
            validate=validate,
            **options,
        )
        self.warmup = AlternativeLoss(
            warmup_penalty,
            reward,
            actions=warmup_actions,
            reward_fn=reward_fn,
            reduction=reduction,
            generator=generator,
            validate=validate,
        )
        self.cross_entropy = warmup == "cross-entropy"

    @property
    def passes(self) -> int:
        """Steps that the loop takes on each batch: those of stage 2 there, one before."""
        return self.policy.passes if self.stage == 2 else 1

    def begin(self) -> None:
        """See :meth:`PolicyLoss.begin`; stage 1 acts anew at each call."""
        self.policy.begin()

    def forward(
        self,
        logits: Tensor,
        labels: Tensor | None,
        inputs: Tensor | None = None,
        values: Tensor | None = None,
    ) -> Tensor:
        """Loss of a batch in the present stage; arguments as in :meth:`PolicyLoss.forward`."""
        if self.stage == 2:
            return self.policy(logits, labels, inputs, values)
        if logits.ndim == 2:  # not hours later, when stage 2 begins
            self.policy.check_classes(logits.shape[1])
        if self.cross_entropy:
            if labels is None:
                raise UserError("labels is None; a cross-entropy warm-up needs labels")
            check_shapes(logits, labels)
            if self.policy.validate:
                check_values(logits, labels)
            return nn.functional.cross_entropy(logits, labels, reduction=self.reduction)
        return self.warmup(logits, labels, inputs)

    def observe(self, accuracy: float) -> bool:
        """Take note of an accuracy in [0, 1], once at the end of each epoch.

        Returns:
            True where this accuracy begins stage 2, False in every other case.

        Raises:
            UserError: an accuracy outside [0, 1] (percent, or NaN).
        """
        if not 0 <= accuracy <= 1:
            raise UserError(f"accuracy is {accuracy:g}; give a fraction in [0, 1], not percent")
        self.epochs += 1
        due = self.epochs >= self.switch_epoch if self.switch_epoch else accuracy > self.threshold
        if self.stage == 2 or not due:
            return False
        self.stage = 2
        return True

    def get_extra_state(self) -> Tensor:
        """Stage and epochs, as a tensor so that ``torch.load(weights_only=True)`` takes it."""
        return torch.tensor([self.stage, self.epochs])

    def set_extra_state(self, state: Tensor) -> None:
        """Restore stage and epochs from a ``state_dict``."""
        stage, epochs = (*state.reshape(-1).tolist(), 0)[:2]
        if stage not in (1, 2):
            raise UserError(f"the saved stage is {stage}; a two-stage loss has stages 1 and 2")
        self.stage, self.epochs = stage, epochs

    def extra_repr(self) -> str:
        """Settings shown by ``print(module)``."""
        return f"stage={self.stage}, threshold={self.threshold:g}"
