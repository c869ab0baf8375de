"""Loading a data set by its name: find, verify, decode, and keep the decoded arrays."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file
from torch import Tensor

from robustpolicy.data.fetch import fetch
from robustpolicy.data.files import Found, cache_dir, find, read, search_path
from robustpolicy.data.formats import decode_cifar_binary, decode_cifar_python, decode_idx
from robustpolicy.data.sources import SOURCES, Source
from robustpolicy.errors import UserError

Arrays = dict[str, NDArray[np.generic]]


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


def get_source(name: str) -> Source:
    """The description of a data set.

    Raises:
        UserError: unknown; lists the known ones.
    """
    if name not in SOURCES:
        raise UserError(f"unknown data set {name!r}; choose one of {', '.join(SOURCES)}")
    return SOURCES[name]


def load_dataset(name: str, data_dirs: Sequence[str | Path] = ()) -> Dataset:
    """Load a data set: from the given folders, ``$ROBUSTPOLICY_DATA``, the cache, or the network.

    Args:
        name: ``"digits"``, ``"mnist"`` or ``"cifar10"``.
        data_dirs: folders to look in first; the files may be spread over several.

    Raises:
        UserError: an unknown name, a missing folder, a damaged or altered file, or no network.
    """
    source = get_source(name)
    folders = search_path(data_dirs)
    if not source.versions:
        arrays = _digits()
    else:
        found = find(source, folders) or fetch(source)
        arrays = _cached(source, found)
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


def _cached(source: Source, found: Found) -> Arrays:
    """Decoded arrays, kept in the user cache for as long as the files stay as they are."""
    stamps = [(str(p.resolve()), p.stat().st_size, p.stat().st_mtime_ns) for p in found.paths]
    key = hashlib.sha256(repr(stamps).encode()).hexdigest()[:16]
    path = cache_dir() / "decoded" / f"{source.name}-{key}.safetensors"
    try:
        with safe_open(path, framework="numpy") as file:
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            if (file.metadata() or {}).get("sha256") == _digest(arrays):
                return arrays
    except (OSError, SafetensorError):
        pass  # none yet, or a damaged one: decode again
    arrays = decode(found)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_suffix(f".{os.getpid()}.tmp")
        try:
            save_file(arrays, temporary, metadata={"sha256": _digest(arrays)})
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
    except (OSError, SafetensorError):
        pass  # a cache that cannot be written costs time, nothing else
    return arrays


def _digest(arrays: Arrays) -> str:
    digest = hashlib.sha256()
    for name in sorted(arrays):
        digest.update(name.encode())
        digest.update(np.ascontiguousarray(arrays[name]).data)
    return digest.hexdigest()


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
