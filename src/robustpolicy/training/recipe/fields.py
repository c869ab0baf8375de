"""Checks of a recipe's fields: types, choices, ranges."""

from __future__ import annotations

from functools import cache
from typing import Any, Literal, get_args, get_origin, get_type_hints

from robustpolicy.errors import UserError

#: Resolving annotations takes most of the time of making a recipe, and a sweep makes thousands.
_hints = cache(get_type_hints)


def check_types(owner: Any) -> None:
    """Check fields of plain types and of named choices: from Python, nobody else does."""
    for name, wanted in _hints(owner.__class__).items():
        value = getattr(owner, name)
        if get_origin(wanted) is Literal:
            if value not in get_args(wanted):
                choices = ", ".join(get_args(wanted))
                raise UserError(f"recipe field {name} is {value!r}; choose one of {choices}")
        elif wanted in (int, float, str, bool):
            whole = wanted is float and type(value) is int
            if type(value) is not wanted and not whole:
                raise UserError(f"recipe field {name} is {value!r}; give {wanted.__name__}")


def check(owner: object, name: str, fine: bool, allowed: str) -> None:
    """Raise UserError with the field's value and what is allowed, unless it is fine."""
    if not fine:
        value = getattr(owner, name)
        shown = " ".join(map(str, value)) if isinstance(value, tuple) else value
        raise UserError(f"{name} is {shown}; give {allowed}")
