"""Random starts that belong to a sample, not to its place in a batch."""

from __future__ import annotations

import torch
from torch import Tensor

from robustpolicy.randomness import derive_seed


def keyed_uniform(x: Tensor, indices: Tensor, *key: object) -> Tensor:
    """Numbers in [-1, 1), the shape of ``x``, that depend on the key and each sample's index only.

    Args:
        x: gives shape (B, ...), dtype and device.
        indices: index of each sample in its data set, shape (B,).
        key: what the numbers are for: a seed, a restart.
    """
    # Drawn on the CPU, so that every device gets the same numbers.
    noise = torch.empty(x.shape, dtype=torch.float32)
    generator = torch.Generator()
    for row, index in zip(noise, indices.tolist(), strict=True):
        row.uniform_(-1, 1, generator=generator.manual_seed(derive_seed(*key, index)))
    return noise.to(x)
