"""Random numbers for a batch, also where several processes share it."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


class Shard:
    """One process's rows of what is drawn for a whole batch.

    Each process draws for the whole batch from equal generators and keeps the rows of its own
    samples, so what a sample gets does not depend on how many processes there are.

    Attributes:
        generator: the same stream in every process.
        first: this process's first row of the present batch.
        total: rows of the whole batch.
    """

    def __init__(self, generator: torch.Generator) -> None:
        self.generator = generator
        self.first = 0
        self.total = 0


#: Where draws come from: a generator, a process's share of one, or (None) torch's global one.
RandomSource = torch.Generator | Shard | None


def uniform(
    shape: tuple[int, ...],
    source: RandomSource,
    device: torch.device,
    dtype: torch.dtype = torch.float32,
    low: float = 0.0,
    high: float = 1.0,
) -> Tensor:
    """Uniform numbers in [low, high); the first axis counts the samples of the batch."""
    return _draw(
        lambda values, generator: values.uniform_(low, high, generator=generator),
        torch.empty(_whole(shape, source), device=device, dtype=dtype),
        shape,
        source,
    )


def normal(shape: tuple[int, ...], source: RandomSource, device: torch.device) -> Tensor:
    """Standard normal numbers; the first axis counts the samples of the batch."""
    return _draw(
        lambda values, generator: values.normal_(generator=generator),
        torch.empty(_whole(shape, source), device=device),
        shape,
        source,
    )


def integers(
    high: int, shape: tuple[int, ...], source: RandomSource, device: torch.device
) -> Tensor:
    """Whole numbers in [0, high), int64; the first axis counts the samples of the batch."""
    return _draw(
        lambda values, generator: values.random_(0, high, generator=generator),
        torch.empty(_whole(shape, source), device=device, dtype=torch.int64),
        shape,
        source,
    )


def _whole(shape: tuple[int, ...], source: RandomSource) -> tuple[int, ...]:
    return (source.total, *shape[1:]) if isinstance(source, Shard) else shape


def _draw(
    fill: Callable[[Tensor, torch.Generator | None], Tensor],
    values: Tensor,
    shape: tuple[int, ...],
    source: RandomSource,
) -> Tensor:
    if not isinstance(source, Shard):
        return fill(values, source)
    return fill(values, source.generator)[source.first : source.first + shape[0]]
