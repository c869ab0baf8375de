"""Loading a data set by its name: find, verify, decode, and keep the decoded arrays."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from robustpolicy.data.arrays import Arrays, Dataset
from robustpolicy.data.cache import cached
from robustpolicy.data.fetch import fetch
from robustpolicy.data.files import Found, find, read, search_path
from robustpolicy.data.formats import decode_cifar_binary, decode_cifar_python, decode_idx
from robustpolicy.data.own import load_own
from robustpolicy.data.sources import SOURCES, Source
from robustpolicy.errors import UserError


def get_source(name: str) -> Source:
    """The description of a data set; one of the user's own is loaded for it.

    Raises:
        UserError: unknown; lists the known ones.
    """
    return SOURCES[name] if name in SOURCES else load_own(name).source


def load_dataset(name: str, data_dirs: Sequence[str | Path] = (), image_size: int = 0) -> Dataset:
    """Load a data set: from the given folders, ``$ROBUSTPOLICY_DATA``, the cache, or the network.

    Args:
        name: ``"digits"``, ``"mnist"`` or ``"cifar10"``; or a data set of one's own: a folder of
            class folders of images, a .npz file, or ``module:callable``, whose code is run.
        data_dirs: folders to look in first for the files of MNIST and CIFAR-10, which may be
            spread over several.
        image_size: of a folder of images: side to which they are scaled and cut; 0 takes them as
            they are.

    Raises:
        UserError: an unknown name, a missing folder, a damaged or altered file, or no network.
    """
    folders = search_path(data_dirs)
    if name not in SOURCES:
        return load_own(name, image_size)
    if image_size:
        raise UserError(f"image_size is {image_size}, but {name} has a size of its own; leave it 0")
    source = SOURCES[name]
    if not source.versions:
        arrays = _digits()
    else:
        found = find(source, folders) or fetch(source)
        arrays = cached(source.name, found.paths, lambda: decode(found))
    _check(source, arrays)
    return Dataset(source, **{key: torch.from_numpy(value) for key, value in arrays.items()})


def decode(found: Found) -> Arrays:
    """Read, verify and decode the files of a data set.

    Raises:
        UserError: a damaged or altered file, named with its SHA-256.
    """
    contents = read(found)
    if found.version.format == "idx":
        parts = {name: decode_idx(data, name) for name, data in contents.items()}
        return {
            "train_images": parts["train-images-idx3-ubyte"][:, None].copy(),
            "train_labels": parts["train-labels-idx1-ubyte"].astype(np.int64),
            "test_images": parts["t10k-images-idx3-ubyte"][:, None].copy(),
            "test_labels": parts["t10k-labels-idx1-ubyte"].astype(np.int64),
        }
    binary = found.version.format == "cifar-binary"
    decoder = decode_cifar_binary if binary else decode_cifar_python
    batches = [decoder(contents[name], name) for name in found.version.members]
    train, test = batches[:-1], batches[-1]
    return {
        "train_images": np.concatenate([images for images, _ in train]),
        "train_labels": np.concatenate([labels for _, labels in train]),
        "test_images": test[0].copy(),
        "test_labels": test[1],
    }


def _digits() -> Arrays:
    """scikit-learn's digits at 28x28, split 4 to 1 by a fixed shuffle."""
    from sklearn.datasets import load_digits

    small, labels = load_digits(return_X_y=True)
    # Bilinear upsampling as one matrix, weights (28, 8), pixel centres aligned.
    centres = (np.arange(28) + 0.5) * 8 / 28 - 0.5
    low = np.clip(np.floor(centres).astype(int), 0, 7)
    high = np.clip(low + 1, 0, 7)
    share = np.clip(centres - low, 0, 1)
    weights = np.zeros((28, 8))
    weights[np.arange(28), low] += 1 - share
    weights[np.arange(28), high] += share
    large = weights @ small.reshape(-1, 8, 8) @ weights.T
    images = np.rint(large * (255 / 16)).astype(np.uint8)[:, None]
    order = np.random.default_rng(0).permutation(len(images))
    images, labels = images[order], labels[order].astype(np.int64)
    cut = SOURCES["digits"].train
    return {
        "train_images": images[:cut].copy(),
        "train_labels": labels[:cut].copy(),
        "test_images": images[cut:].copy(),
        "test_labels": labels[cut:].copy(),
    }


def _check(source: Source, arrays: Arrays) -> None:
    """Check sizes and label values of what was loaded."""
    for split, size in (("train", source.train), ("test", source.test)):
        images, labels = arrays[f"{split}_images"], arrays[f"{split}_labels"]
        if images.shape != (size, *source.shape) or labels.shape != (size,):
            raise UserError(
                f"{source.name} {split} has images {images.shape} and labels {labels.shape}; "
                f"expected {(size, *source.shape)} and {(size,)}"
            )
        if labels.min() < 0 or labels.max() >= len(source.classes):
            raise UserError(
                f"{source.name} {split} has labels from {labels.min()} to {labels.max()}; "
                f"expected 0 to {len(source.classes) - 1}"
            )
