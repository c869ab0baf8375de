"""Random starts that belong to a sample, not to its place in a batch."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from robustpolicy.attacks.threat import Threat
from robustpolicy.randomness import derive_seed

#: Draws noise for the samples at these indices: (x, indices, restart) -> the shape of ``x``.
Noise = Callable[[Tensor, Tensor, int], Tensor]


def keyed(x: Tensor, indices: Tensor, *key: object, normal: bool = False) -> Tensor:
    """Random numbers, the shape of ``x``, that depend on the key and each sample's index only.

    Args:
        x: gives shape (B, ...), dtype and device.
        indices: index of each sample in its data set, shape (B,).
        key: what the numbers are for: a seed, a restart.
        normal: standard normal; else uniform in [-1, 1).
    """
    # Drawn on the CPU, so that every device gets the same numbers.
    noise = torch.empty(x.shape, dtype=torch.float32)
    generator = torch.Generator()
    for row, index in zip(noise, indices.tolist(), strict=True):
        generator.manual_seed(derive_seed(*key, index))
        if normal:
            row.normal_(generator=generator)
        else:
            row.uniform_(-1, 1, generator=generator)
    return noise.to(x)


def keyed_noise(threat: Threat, seed: int, name: str) -> Noise:
    """Noise for random starts, keyed by (seed, attack, restart, sample)."""

    def draw(x: Tensor, indices: Tensor, restart: int) -> Tensor:
        return keyed(x, indices, seed, name, restart, normal=threat.norm == "L2")

    return draw


def official_noise(threat: Threat, seed: int) -> Noise:
    """The draws of the official AutoAttack: one stream a batch, over those that are left.

    For tests of equality; a sample's start depends on its batch.
    """
    generator = torch.Generator().manual_seed(seed)

    def draw(x: Tensor, indices: Tensor, restart: int) -> Tensor:
        if threat.norm == "L2":
            return torch.randn(x.shape, generator=generator).to(x)
        return (2 * torch.rand(x.shape, generator=generator) - 1).to(x)

    return draw
