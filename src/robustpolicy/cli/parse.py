"""Options as dataclasses, parsed by tyro; its boxed errors become one line."""

from __future__ import annotations

import contextlib
import io
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

import tyro

from robustpolicy.errors import UserError

T = TypeVar("T")

#: Flags carry the field's own name, and a default decides between the members of a union.
_CONFIG = (tyro.conf.OmitArgPrefixes, tyro.conf.AvoidSubcommands)


def parse(
    options: type[T],
    arguments: Sequence[str],
    command: str,
    description: str | None = None,
    default: Any = None,
) -> T:
    """Parse options of a command.

    Raises:
        UserError: an unknown flag or a value that does not fit, in one line.
    """
    errors = io.StringIO()
    keywords: dict[str, Any] = {} if default is None else {"default": default}
    try:
        with contextlib.redirect_stderr(errors):
            return tyro.cli(
                options,
                prog=f"robustpolicy {command}",
                description=description,
                args=list(arguments),
                config=_CONFIG,
                **keywords,
            )
    except SystemExit as end:
        if not end.code:
            raise  # --help
        raise UserError(
            f"{_first_line(errors.getvalue())} (see robustpolicy {command} --help)"
        ) from None


def check_output(flag: str, path: Path | None) -> None:
    """Raise UserError if a file of this name cannot be written: before hours of work, not after."""
    if path is not None and (path.is_dir() or not path.absolute().parent.is_dir()):
        raise UserError(f"{flag} {path}: give the name of a file in a folder that exists")


def _first_line(box: str) -> str:
    """The message of tyro's box: the lines down to its first rule."""
    lines = []
    for line in box.splitlines()[1:]:
        text = re.sub(r"\x1b\[[0-9;]*m", "", line).strip("│ \t")
        if not text or set(text) <= set("─╰╯"):
            break
        lines.append(text)
    return " ".join(lines).rstrip(".")
