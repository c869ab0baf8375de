"""Decoded arrays, kept in the user cache for as long as the files stay as they are."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from robustpolicy.data.arrays import Arrays
from robustpolicy.data.description import digest
from robustpolicy.data.files import cache_dir


def cached(
    name: str, files: Sequence[Path], decode: Callable[[], Arrays], place: object = ()
) -> Arrays:
    """Arrays from the cache, or decoded and put there.

    Args:
        name: the beginning of the cache file's name.
        files: what is decoded; a change of paths, sizes or times calls for decoding again.
        decode: does it.
        place: what else decides the arrays. Files that change write over what the cache has of
            the same name and place; if not given, the place is the files' own.
    """
    stats = [(str(path.resolve()), path.stat()) for path in files]
    stamp = _short([(path, stat.st_size, stat.st_mtime_ns) for path, stat in stats])
    key = _short(place or [path for path, _ in stats])
    path = cache_dir() / "decoded" / f"{name}-{key}.safetensors"
    try:
        with safe_open(path, framework="numpy") as file:
            about = file.metadata() or {}
            if about.get("stamp") == stamp:
                arrays = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
                if about.get("sha256") == digest(arrays):
                    return arrays
    except (OSError, SafetensorError):
        pass  # none yet, or a damaged one: decode again
    arrays = decode()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_suffix(f".{os.getpid()}.tmp")
        try:
            save_file(arrays, temporary, metadata={"stamp": stamp, "sha256": digest(arrays)})
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
    except (OSError, SafetensorError):
        pass  # a cache that cannot be written costs time, nothing else
    return arrays


def _short(value: object) -> str:
    return hashlib.sha256(repr(value).encode()).hexdigest()[:16]
