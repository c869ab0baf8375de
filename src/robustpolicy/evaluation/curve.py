"""Robust accuracy over epsilon, each radius warm-started from the smaller one."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from robustpolicy.attacks import PGD, AttackedModel, AttackLoss, Threat
from robustpolicy.errors import UserError


def robustness_curve(
    model: nn.Module | AttackedModel,
    x: Tensor,
    y: Tensor,
    threat: Threat,
    epsilons: Sequence[float],
    *,
    steps: int = 40,
    loss: str | AttackLoss = "ce",
    seed: int = 0,
    indices: Tensor | None = None,
    batch_size: int = 500,
) -> Tensor:
    """Which samples withstand PGD at each radius.

    What is fooled in a small ball is fooled in a larger one around it, so only survivors are
    attacked again, from where the smaller attack ended, with steps of 2.5 epsilon / steps.

    Args:
        model: classifier, inputs in the threat's range.
        x: inputs, shape (N, ...).
        y: labels, shape (N,).
        threat: norm and range; its epsilon is not used.
        epsilons: rising radii.
        steps: steps of PGD at each radius.
        loss: what PGD raises.
        seed: seed of the first random start.
        indices: index of each sample in its data set.
        batch_size: samples a batch.

    Returns:
        Flags, bool, shape (len(epsilons), N): robust at each radius; each row is contained in
        the one above it.

    Raises:
        UserError: no radii, or radii that do not rise.
    """
    rising = all(a < b for a, b in itertools.pairwise(epsilons))
    if not epsilons or not rising:
        raise UserError(f"epsilons are {list(epsilons)}; give rising radii, such as 0.05 0.1 0.2")
    threat.check_inputs(x)
    if indices is None:
        indices = torch.arange(len(x))
    flags = torch.zeros(len(epsilons), len(x), dtype=torch.bool)
    with AttackedModel.of(model) as attacked:
        for first in range(0, len(x), batch_size):
            places = torch.arange(first, min(first + batch_size, len(x)))
            inputs, labels = attacked.place(x[places]), attacked.place(y[places])
            left = (~attacked.wrong(attacked.logits(inputs), labels)).nonzero()[:, 0]
            start: Tensor | None = None
            for row, epsilon in enumerate(epsilons):
                if len(left) == 0:
                    break
                ball = dataclasses.replace(threat, epsilon=epsilon)
                attack = PGD(steps, 2.5 * epsilon / steps, loss=loss)
                keys = indices[places[left.cpu()]]
                found = attack(
                    attacked, inputs[left], labels[left], ball, seed=seed, indices=keys, start=start
                )
                stands = ~attacked.wrong(attacked.logits(found), labels[left])
                left, start = left[stands], found[stands]
                flags[row, places[left.cpu()]] = True
    return flags
