"""Splits and batches: the whole set on the device as uint8, batches made there."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from robustpolicy.data.arrays import Dataset
from robustpolicy.draws import RandomSource, Shard, integers, uniform
from robustpolicy.errors import UserError
from robustpolicy.randomness import derive_seed

#: Pixels of zero padding before a random crop.
PADDING = 4


@dataclass(frozen=True)
class Split:
    """Images and labels of one split: uint8 (N, C, H, W) and int64 (N,), on one device."""

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        """Number of samples."""
        return len(self.labels)

    def to(self, device: torch.device) -> Split:
        """The same split on a device."""
        return Split(self.images.to(device), self.labels.to(device))

    def take(self, indices: Tensor) -> Split:
        """The samples at these indices, in this order."""
        indices = indices.to(self.labels.device)
        return Split(self.images[indices], self.labels[indices])

    def inputs(self) -> Tensor:
        """All images as float32 in [0, 1]."""
        return to_float(self.images)


@dataclass(frozen=True)
class Joining:
    """The last samples of a split, which are a fixed share of each batch.

    Attributes:
        samples: how many they are.
        share: the part of each batch that is drawn from them.
    """

    samples: int
    share: float


def splits(dataset: Dataset, protocol: str, validation: float) -> tuple[Split, Split]:
    """The split to train on and the split that the stage switch watches.

    ``"paper"`` trains on all of train and watches test. ``"standard"`` holds a share
    ``validation`` out of train, the same samples for every seed, and watches that.
    """
    train = Split(dataset.train_images, dataset.train_labels)
    if protocol == "paper":
        return train, Split(dataset.test_images, dataset.test_labels)
    generator = torch.Generator().manual_seed(derive_seed(dataset.source.name, "validation"))
    order = torch.randperm(len(train), generator=generator)
    held_out = max(1, round(validation * len(train)))
    if held_out >= len(train):
        raise UserError(f"validation is {validation:g}, which leaves nothing to train on; give 0.1")
    return train.take(order[held_out:]), train.take(order[:held_out])


def to_float(images: Tensor) -> Tensor:
    """uint8 images as float32 in [0, 1], channels last (the fastest layout on CPU and GPU)."""
    # One channel is both layouts at once; saying so keeps convolutions on the fast path.
    return images.to(torch.float32).div_(255).contiguous(memory_format=torch.channels_last)


def epoch_batches(
    split: Split,
    batch_size: int,
    order_seed: int,
    *,
    start: int = 0,
    augmentation: str = "none",
    generator: RandomSource = None,
    rows: Callable[[int], slice] = slice,
    joining: Joining | None = None,
) -> Iterator[tuple[Tensor, Tensor, int]]:
    """Batches of one epoch in an order that depends on ``order_seed`` only.

    Args:
        split: what to train on.
        batch_size: samples a batch; the last may be smaller.
        order_seed: seed of the order.
        start: first batch to give, to go on within an epoch.
        augmentation: ``"none"`` or ``"crop-flip"``.
        generator: source of the augmentation, on the split's device.
        rows: which rows of a batch of this length are given; all by default.
        joining: the last samples of the split that join the others' batches.

    Yields:
        Images, float32 in [0, 1], shape (B, C, H, W), labels, int64, shape (B,), and the length of
        the batch with all its rows.
    """
    order = epoch_order(len(split), batch_size, order_seed, joining)
    # One transfer, not one a batch.
    lengths = [len(part) for part in order]
    on_device = torch.split(torch.cat(order).to(split.labels.device), lengths)
    for whole in on_device[start:]:
        wanted = rows(len(whole))
        if isinstance(generator, Shard):
            generator.first, generator.total = wanted.start or 0, len(whole)
        chosen = whole[wanted]
        images = split.images.index_select(0, chosen)  # a fifth of the time of indexing
        if augmentation == "crop-flip":
            images = crop_flip(images, generator)
        yield to_float(images), split.labels[chosen], len(whole)


def epoch_order(
    samples: int, batch_size: int, seed: int, joining: Joining | None = None
) -> tuple[Tensor, ...]:
    """Indices of each batch of an epoch: one random pass over the samples.

    With ``joining``, one pass over all but the last samples; those join, over and over.

    Raises:
        UserError: a share of the batch that is none of it or all.
    """
    joining = joining or Joining(0, 0.0)
    first = samples - joining.samples
    order = torch.randperm(first, generator=torch.Generator().manual_seed(seed))
    if not joining.samples:
        return torch.split(order, batch_size)
    count = round(joining.share * batch_size)
    if not 0 < count < batch_size:
        raise UserError(
            f"a share of {joining.share:g} of a batch of {batch_size} is {count}; give a larger "
            "batch, or another share"
        )
    batches = torch.split(order, batch_size - count)
    generator = torch.Generator().manual_seed(derive_seed(seed, "joining"))
    passes = range(-(-len(batches) * count // joining.samples))
    others = torch.cat([torch.randperm(joining.samples, generator=generator) for _ in passes])
    return tuple(
        torch.cat([batch, first + others[number * count : (number + 1) * count]])
        for number, batch in enumerate(batches)
    )


def crop_flip(images: Tensor, generator: RandomSource) -> Tensor:
    """Random crops after zero padding, and random horizontal flips, each image its own.

    Args:
        images: uint8, shape (B, C, H, W).
        generator: source of the randomness, on the device of the images.
    """
    return apply_crops(images, *draw_crops(len(images), generator, images.device))


def draw_crops(n: int, generator: RandomSource, device: torch.device) -> tuple[Tensor, Tensor]:
    """Random corners, int64, shape (B, 2), and flips, bool, shape (B,), for :func:`apply_crops`."""
    corners = integers(2 * PADDING + 1, (n, 2), generator, device)
    return corners, uniform((n,), generator, device) < 0.5


def apply_crops(images: Tensor, corners: Tensor, flip: Tensor) -> Tensor:
    """Crops of zero-padded images, each at its own corner, some flipped.

    Args:
        images: uint8, shape (B, C, H, W).
        corners: row and column of each crop in the padded image, shape (B, 2).
        flip: which to flip horizontally, bool, shape (B,).
    """
    n, _, height, width = images.shape
    top, left = corners.unbind(1)
    padded = F.pad(images, (PADDING,) * 4)
    windows = padded.unfold(2, height, 1).unfold(3, width, 1)  # (B, C, 9, 9, H, W), a view
    crops = windows[torch.arange(n, device=images.device), :, top, left]
    return torch.where(flip[:, None, None, None], crops.flip(3), crops)
