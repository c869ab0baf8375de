"""Writing files so that a kill or a full disk at any moment leaves the old ones readable."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from robustpolicy.errors import UserError


def write_atomically(path: Path, write: Callable[[Path], None]) -> None:
    """Call ``write`` on a temporary file beside ``path``, flush it to disk, rename it.

    Raises:
        UserError: the disk is full or not writable; ``path`` is as it was before.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        write(temporary)
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except (OSError, RuntimeError) as error:  # torch.save raises RuntimeError on a full disk
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        kept = "what was there before is kept" if path.exists() else "nothing was there before"
        raise UserError(
            f"could not write {path}: {_reason(error)} ({kept}); free some space or choose another "
            "--output, then run the same command again"
        ) from None


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically."""
    write_atomically(path, lambda temporary: temporary.write_text(text))  # type: ignore[arg-type]


def write_json(path: Path, data: Any) -> None:
    """Write JSON atomically, indented, with a final newline."""
    write_text(path, json.dumps(data, indent=1) + "\n")


def make_folder(path: Path) -> None:
    """Make a folder and its parents.

    Raises:
        UserError: it cannot be made (no permission, a file of that name).
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"cannot make the folder {path}: {error.strerror}; choose another --output"
        ) from None


def _reason(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error).splitlines()[0]
