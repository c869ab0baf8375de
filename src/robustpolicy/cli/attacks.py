"""The attacks that ``--attacks`` names."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from robustpolicy.errors import UserError


def choose_attacks(names: Sequence[str], known: dict[str, Any]) -> tuple[Any, ...]:
    """Attacks of these names, each once.

    Raises:
        UserError: none, or one that is not known; lists the known ones.
    """
    unknown = [name for name in names if name not in known]
    if unknown or not names:
        given = unknown[0] if unknown else "nothing"
        raise UserError(f"--attacks has {given!r}; choose some of {', '.join(known)}")
    return tuple(known[name] for name in dict.fromkeys(names))
