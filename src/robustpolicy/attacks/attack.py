"""What attacks share: how they are called, and the step from one try to the next."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from robustpolicy.attacks.model import AttackedModel
from robustpolicy.attacks.threat import Threat
from robustpolicy.errors import UserError


class Attack(ABC):
    """Base of the attacks, which are frozen dataclasses that hold their whole configuration."""

    def __call__(
        self,
        model: nn.Module | AttackedModel,
        x: Tensor,
        y: Tensor,
        threat: Threat,
        *,
        seed: int = 0,
        indices: Tensor | None = None,
    ) -> Tensor:
        """Adversarial examples, the shape of ``x`` and on its device.

        The model is attacked where it is, in eval mode, frozen and in float32, and comes back as
        it was; the caller may be under ``no_grad`` or ``inference_mode``.

        Args:
            model: classifier of inputs in the threat's range, logits (B, C) as output.
            x: inputs, float32 or float64, shape (B, ...).
            y: labels, int64, shape (B,).
            threat: ball and range.
            seed: seed of the attack's randomness.
            indices: index of each sample in its data set, shape (B,), which keys its randomness;
                0 ... B-1 if None.

        Raises:
            UserError: inputs outside the range, labels that do not fit, outputs that are no
                logits.
        """
        return self._call(model, x, y, threat, seed, indices)

    def _call(
        self,
        model: nn.Module | AttackedModel,
        x: Tensor,
        y: Tensor,
        threat: Threat,
        seed: int,
        indices: Tensor | None,
        **more: Tensor | None,
    ) -> Tensor:
        if len(x) == 0:
            return x.clone()
        threat.check_inputs(x)
        if indices is None:
            indices = torch.arange(len(x))
        elif len(indices) != len(x):
            raise UserError(f"{len(indices)} indices for {len(x)} inputs; give one an input")
        indices = indices.cpu()
        with AttackedModel.of(model) as attacked:
            inputs, labels = attacked.place(x), attacked.place(y)
            attacked.check(inputs, labels)
            more = {name: t if t is None else attacked.place(t) for name, t in more.items()}
            return self._run(attacked, inputs, labels, threat, seed, indices, **more).to(x.device)

    @abstractmethod
    def _run(
        self,
        model: AttackedModel,
        x: Tensor,
        y: Tensor,
        threat: Threat,
        seed: int,
        indices: Tensor,
    ) -> Tensor:
        """The attack itself; the model is entered, ``x`` and ``y`` are on its device."""


def on_survivors(
    model: AttackedModel, x: Tensor, y: Tensor, tries: Sequence[Callable[[Tensor], Tensor]]
) -> Tensor:
    """Each try in turn on what is still classified correctly.

    Args:
        model: entered already.
        x: inputs, shape (B, ...).
        y: labels, shape (B,).
        tries: each gives examples for the samples at the places it is given, int64, shape (K,).

    Returns:
        The example that fooled each sample; the last one tried, or the input, where none did.
    """
    result = x.clone()
    left = (~model.wrong(model.logits(x), y)).nonzero()[:, 0]
    for number, attempt in enumerate(tries):
        if len(left) == 0:
            break
        with model.part(number, len(tries)):
            found = attempt(left)
        result[left] = found
        left = left[~model.wrong(model.logits(found), y[left])]
    return result
