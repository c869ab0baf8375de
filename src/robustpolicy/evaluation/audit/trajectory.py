"""One run of PGD, looked at step by step."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from robustpolicy.attacks import PGD, AttackedModel, Threat
from robustpolicy.attacks.losses import get_attack_loss
from robustpolicy.attacks.noise import keyed_noise


@dataclass(frozen=True)
class Trajectory:
    """What happened at each step, start included.

    Attributes:
        losses: shape (S + 1, B).
        wrong: whether the iterate is misclassified, shape (S + 1, B).
        zero: whether its gradient is zero throughout, shape (S + 1, B).
        last: the last iterates, the shape of the inputs.
    """

    losses: Tensor
    wrong: Tensor
    zero: Tensor
    last: Tensor


def follow(
    model: AttackedModel,
    x: Tensor,
    y: Tensor,
    threat: Threat,
    attack: PGD,
    seed: int,
    indices: Tensor,
) -> Trajectory:
    """Run PGD's steps on samples, none of which leaves.

    Args:
        model: entered already.
        x: inputs, shape (B, ...).
        y: labels, shape (B,).
        threat: ball and range.
        attack: its steps, step size and loss.
        seed: seed of the random start.
        indices: index of each sample, which keys its start.

    Raises:
        NoGradientError: the model gives none.
    """
    loss = get_attack_loss(attack.loss, model.classes)
    noise = keyed_noise(threat, seed, "start")(x, indices, 0)
    current = threat.project(x + threat.epsilon * noise, x)
    losses, wrong, zero = [], [], []
    for step in range(attack.steps + 1):
        gradient, logits, values = model.gradient(current, y, loss)
        losses.append(values)
        wrong.append(model.wrong(logits, y))
        zero.append(gradient.flatten(1).abs().amax(1) == 0)
        if step < attack.steps:
            current = threat.project(current + attack.step_size * threat.steepest(gradient), x)
    return Trajectory(
        torch.stack(losses).cpu(), torch.stack(wrong).cpu(), torch.stack(zero).cpu(), current
    )
