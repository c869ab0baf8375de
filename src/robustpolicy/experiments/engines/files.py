"""Results between machines that share no file system."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from robustpolicy.training.files import make_folder, write_atomically

#: Of each file: its path below the result (empty for the result itself), size and time of change.
Stamp = tuple[tuple[str, int, int], ...]


@dataclass(frozen=True)
class Packed:
    """The content of a result, and its stamp."""

    stamp: Stamp
    contents: tuple[bytes, ...]


def stamp(path: Path) -> Stamp:
    """What tells a result from another one; empty if there is none.

    Two machines that see the same stamp share the file system: times are in nanoseconds. Locks and
    files half written are nobody else's: a lock that is replaced locks nothing.
    """
    found = []
    for file in [path] if path.is_file() else sorted(path.rglob("*")):
        if file.is_file() and not _passing(file.name):
            state = file.stat()
            name = "" if file == path else file.relative_to(path).as_posix()
            found.append((name, state.st_size, state.st_mtime_ns))
    return tuple(found)


def pack(path: Path) -> Packed:
    """Read a result."""
    seen = stamp(path)
    return Packed(seen, tuple(_place(path, name).read_bytes() for name, _, _ in seen))


def unpack(packed: Packed, path: Path) -> None:
    """Write a result, times included. Files that are the same already are left alone.

    Raises:
        UserError: the disk is full or not writable.
    """
    have = stamp(path)
    for one, content in zip(packed.stamp, packed.contents, strict=True):
        if one in have:
            continue
        name, _, time = one
        file = _place(path, name)
        make_folder(file.parent)

        def write(temporary: Path, content: bytes = content, time: int = time) -> None:
            temporary.write_bytes(content)
            os.utime(temporary, ns=(time, time))

        write_atomically(file, write)


def _passing(name: str) -> bool:
    return name == "lock" or name.endswith((".lock", ".tmp"))


def _place(path: Path, name: str) -> Path:
    return path / name if name else path
