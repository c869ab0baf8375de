"""Which samples are evaluated: all, a seeded random draw, or named indices."""

from __future__ import annotations

import torch
from torch import Tensor

from robustpolicy.errors import UserError
from robustpolicy.randomness import derive_seed


def choose_samples(
    total: int, samples: int | None = None, indices: str | None = None, seed: int = 0
) -> Tensor:
    """Indices of the samples to evaluate, rising, int64.

    Args:
        total: size of the data set.
        samples: draw this many at random; None takes all. (The first 2,000 test images of MNIST
            are harder than the rest, so the head of a set is no fair sample.)
        indices: ``"A:B"``, the samples from A up to, not including, B, instead.
        seed: seed of the draw.

    Raises:
        UserError: both given, more samples than there are, or a range that is empty or outside.
    """
    if samples is not None and indices is not None:
        raise UserError("--samples and --indices are both given; use one of them")
    if indices is not None:
        parts = indices.split(":")
        try:
            first, last = int(parts[0] or 0), int(parts[1] or total)
        except (ValueError, IndexError):
            raise UserError(f"--indices is {indices!r}; give A:B, such as 0:200") from None
        if len(parts) != 2 or not 0 <= first < last <= total:
            raise UserError(f"--indices is {indices!r}; give A:B with 0 <= A < B <= {total}")
        return torch.arange(first, last)
    if samples is None:
        return torch.arange(total)
    if not 1 <= samples <= total:
        raise UserError(f"--samples is {samples}; give a number from 1 to {total}")
    generator = torch.Generator().manual_seed(derive_seed(seed, "samples"))
    return torch.randperm(total, generator=generator)[:samples].sort().values
