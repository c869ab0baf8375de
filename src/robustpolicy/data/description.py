"""What a data set of one's own is, as plain data: enough to load a model without its images."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np

from robustpolicy.data.arrays import Arrays, Dataset
from robustpolicy.data.sources import SOURCES, Source


def is_own(name: str) -> bool:
    """Whether a data set is the user's, not one of :data:`SOURCES`."""
    return name not in SOURCES


def describe(dataset: Dataset) -> dict[str, Any]:
    """Name, classes, shape, sizes, statistics, and the SHA-256 of images and labels."""
    source = dataset.source
    arrays = {key: value.numpy() for key, value in vars(dataset).items() if key != "source"}
    return {
        "name": source.name,
        "title": source.title,
        "classes": list(source.classes),
        "shape": list(source.shape),
        "train": source.train,
        "test": source.test,
        "mean": list(source.mean),
        "std": list(source.std),
        "sha256": digest(arrays),
    }


def described_source(data: dict[str, Any]) -> Source:
    """The source in what :func:`describe` gave."""
    fields = {key: value for key, value in data.items() if key != "sha256"}
    for key in ("classes", "shape", "mean", "std"):
        fields[key] = tuple(fields[key])
    return Source(**fields)


def difference(before: dict[str, Any], now: dict[str, Any]) -> str | None:
    """The first point in which two descriptions differ, in words; None if it is the same data."""
    for key in ("classes", "shape", "train", "test"):
        if before[key] != now[key]:
            return f"{key} {_short(before[key])} then, {_short(now[key])} now"
    if before["sha256"] != now["sha256"]:
        return "other images or labels"
    return None


def digest(arrays: Arrays) -> str:
    """SHA-256 of arrays: names, types, shapes and values."""
    sha256 = hashlib.sha256()
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        sha256.update(f"{name} {array.dtype} {array.shape}".encode())
        sha256.update(array.data)
    return sha256.hexdigest()


def _short(value: Any) -> str:
    text = " ".join(map(str, value)) if isinstance(value, list) else str(value)
    return text if len(text) <= 60 else text[:57] + "..."
