"""Splits and batches: the whole set on the device as uint8, batches made there."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from robustpolicy.data.datasets import Dataset
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
    generator: torch.Generator | None = None,
) -> Iterator[tuple[Tensor, Tensor]]:
    """Batches of one epoch in an order that depends on ``order_seed`` only.

    Args:
        split: what to train on.
        batch_size: samples a batch; the last may be smaller.
        order_seed: seed of the order.
        start: first batch to give, to go on within an epoch.
        augmentation: ``"none"`` or ``"crop-flip"``.
        generator: source of the augmentation, on the split's device.

    Yields:
        Images, float32 in [0, 1], shape (B, C, H, W), and labels, int64, shape (B,).
    """
    order = epoch_order(len(split), order_seed).to(split.labels.device)
    for first in range(start * batch_size, len(split), batch_size):
        chosen = order[first : first + batch_size]
        images = split.images[chosen]
        if augmentation == "crop-flip":
            images = crop_flip(images, generator)
        yield to_float(images), split.labels[chosen]


def epoch_order(samples: int, seed: int) -> Tensor:
    """The order of the samples in an epoch, int64, shape (N,), on the CPU."""
    return torch.randperm(samples, generator=torch.Generator().manual_seed(seed))


def crop_flip(images: Tensor, generator: torch.Generator | None) -> Tensor:
    """Random crops after zero padding, and random horizontal flips, each image its own.

    Args:
        images: uint8, shape (B, C, H, W).
        generator: source of the randomness, on the device of the images.
    """
    return apply_crops(images, *draw_crops(len(images), generator, images.device))


def draw_crops(
    n: int, generator: torch.Generator | None, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Random corners, int64, shape (2, B), and flips, bool, shape (B,), for :func:`apply_crops`."""
    corners = torch.randint(2 * PADDING + 1, (2, n), generator=generator, device=device)
    return corners, torch.rand(n, generator=generator, device=device) < 0.5


def apply_crops(images: Tensor, corners: Tensor, flip: Tensor) -> Tensor:
    """Crops of zero-padded images, each with its own corner, some flipped.

    Args:
        images: uint8, shape (B, C, H, W).
        corners: row and column of each crop in the padded image, shape (2, B).
        flip: which to flip horizontally, bool, shape (B,).
    """
    n, _, height, width = images.shape
    top, left = corners
    padded = F.pad(images, (PADDING,) * 4)
    windows = padded.unfold(2, height, 1).unfold(3, width, 1)  # (B, C, 9, 9, H, W), a view
    crops = windows[torch.arange(n, device=images.device), :, top, left]
    return torch.where(flip[:, None, None, None], crops.flip(3), crops)
