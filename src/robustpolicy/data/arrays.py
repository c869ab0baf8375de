"""A data set in memory, and how arrays of one's own become one: checked, as 8-bit images."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from robustpolicy.data.sources import Source
from robustpolicy.errors import UserError

Arrays = dict[str, NDArray[Any]]

#: Numbers of channels by which images (N, H, W, C) are told from (N, C, H, W).
CHANNELS = (1, 3)
#: Rounding floats to 8 bits may change them by this much without a warning: a quarter of a level.
LOSSLESS = 0.25 / 255


@dataclass(frozen=True)
class Dataset:
    """A data set in memory.

    Attributes:
        source: name, classes, statistics.
        train_images: uint8, shape (N, C, H, W).
        train_labels: int64, shape (N,).
        test_images: uint8, shape (M, C, H, W).
        test_labels: int64, shape (M,).
    """

    source: Source
    train_images: Tensor
    train_labels: Tensor
    test_images: Tensor
    test_labels: Tensor


def from_arrays(
    name: str,
    train_images: Any,
    train_labels: Any,
    test_images: Any,
    test_labels: Any,
    classes: Sequence[str] | None = None,
) -> Dataset:
    """Make a data set of numpy arrays or tensors, with its statistics over train.

    Args:
        name: of the data set.
        train_images: uint8, or floats in [0, 1], which are rounded to 8 bits; shape (N, C, H, W),
            (N, H, W), or (N, H, W, C) with 1 or 3 channels.
        train_labels: whole numbers from 0, shape (N,).
        test_images: likewise, of the same size.
        test_labels: likewise.
        classes: names of the classes; their numbers if not given.

    Raises:
        UserError: shapes, types or values that do not fit.
    """
    train = images_of(train_images, f"{name}: train_images")
    test = images_of(test_images, f"{name}: test_images")
    if train.shape[1:] != test.shape[1:]:
        raise UserError(
            f"{name}: images of train have shape {train.shape[1:]}, those of test "
            f"{test.shape[1:]}; give the same"
        )
    labels = {
        "train": _labels_of(train_labels, len(train), f"{name}: train_labels"),
        "test": _labels_of(test_labels, len(test), f"{name}: test_labels"),
    }
    count = 1 + max(int(y.max()) for y in labels.values())
    known = () if classes is None else tuple(map(str, np.ravel(classes)))
    names = known or tuple(map(str, range(count)))
    _check_classes(name, names, count, labels["train"])
    pixels = train.reshape(len(train), train.shape[1], -1)
    mean, std = zip(
        *(_statistics(pixels[:, channel]) for channel in range(train.shape[1])), strict=True
    )
    source = Source(
        name=name,
        title=f"{len(names)} classes of one's own",
        classes=names,
        shape=tuple(train.shape[1:]),
        train=len(train),
        test=len(test),
        mean=mean,
        std=std,
    )
    return Dataset(
        source,
        torch.from_numpy(train),
        torch.from_numpy(labels["train"]),
        torch.from_numpy(test),
        torch.from_numpy(labels["test"]),
    )


def images_of(value: Any, what: str) -> NDArray[np.uint8]:
    """Images as uint8, shape (N, C, H, W).

    Args:
        value: an array or tensor, as :func:`from_arrays` takes.
        what: this is, for errors.

    Raises:
        UserError: another type, range or shape.
    """
    images = _eight_bits(_array(value, what), what)
    shape = images.shape
    if images.ndim == 3:
        images = images[:, None]
    elif images.ndim != 4:
        raise UserError(f"{what} have shape {shape}; give (N, C, H, W) or (N, H, W)")
    elif shape[3] in CHANNELS and shape[1] in CHANNELS:
        raise UserError(
            f"{what} have shape {shape}, where channels can be second or last; give (N, C, H, W) "
            "with a width of another size"
        )
    elif shape[3] in CHANNELS:
        images = images.transpose(0, 3, 1, 2)
    if 0 in images.shape:
        raise UserError(f"{what} have shape {shape}: there are none; give at least one")
    return np.ascontiguousarray(images)


def _eight_bits(images: NDArray[Any], what: str) -> NDArray[np.uint8]:
    """Bytes as they are; floats in [0, 1] rounded to them."""
    if images.dtype == np.uint8:
        return images
    if images.dtype.kind != "f":
        raise UserError(f"{what} are {images.dtype}; give uint8 from 0 to 255, or floats in [0, 1]")
    images = images.astype(np.float32, copy=False)
    if images.size and not (images.min() >= 0 and images.max() <= 1):  # NaN is neither
        raise UserError(
            f"{what} lie in [{images.min():g}, {images.max():g}]; give floats in [0, 1] without "
            "normalisation (the option normalize adds it), or uint8 from 0 to 255"
        )
    rounded = np.rint(images * 255)
    if images.size and np.abs(rounded / 255 - images).max() > LOSSLESS:
        warnings.warn(
            f"{what} are floats between the 256 levels of an 8-bit image; they are rounded to the "
            "nearest level, by up to 0.002, because everything here works on 8-bit images",
            stacklevel=2,
        )
    return rounded.astype(np.uint8)


def _labels_of(value: Any, count: int, what: str) -> NDArray[np.int64]:
    labels = _array(value, what)
    if labels.shape != (count,) or labels.dtype.kind not in "iu":
        raise UserError(
            f"{what} are {labels.dtype} of shape {labels.shape}; give whole numbers of shape "
            f"({count},), one for each image"
        )
    if labels.min() < 0:
        raise UserError(f"{what} go down to {labels.min()}; classes count from 0")
    return np.ascontiguousarray(labels, dtype=np.int64)


def _check_classes(
    name: str, classes: tuple[str, ...], count: int, labels: NDArray[np.int64]
) -> None:
    if count > len(classes):
        raise UserError(f"{name} has labels up to {count - 1}, but names of {len(classes)} classes")
    if len(classes) < 2:
        raise UserError(f"{name} has {len(classes)} class; give at least 2")
    if len(set(classes)) < len(classes):
        raise UserError(f"{name} has two classes of the same name; give each its own")
    empty = np.flatnonzero(np.bincount(labels, minlength=len(classes)) == 0)
    if len(empty):
        raise UserError(
            f"{name} has no training image of class {classes[empty[0]]} (label {empty[0]} of "
            f"{len(classes)}, counted from 0); number the classes without gaps"
        )


def _array(value: Any, what: str) -> NDArray[Any]:
    if isinstance(value, Tensor):
        value = value.detach().cpu()
        value = (value.float() if value.is_floating_point() else value).numpy()
    try:
        return np.asarray(value)
    except ValueError as error:  # nested lists of different lengths
        raise UserError(f"{what} are not an array: {error}") from None


def _statistics(pixels: NDArray[np.uint8]) -> tuple[float, float]:
    """Mean and standard deviation in [0, 1], exact; a deviation of 0 is replaced by 1."""
    counts = np.bincount(pixels.reshape(-1), minlength=256)
    levels = np.arange(256) / 255
    mean = float(counts @ levels / counts.sum())
    std = float(np.sqrt(counts @ (levels - mean) ** 2 / counts.sum()))
    return round(mean, 6), round(std, 6) or 1.0
