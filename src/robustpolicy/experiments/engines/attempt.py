"""One attempt at a job, the same in every engine's processes."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from robustpolicy.errors import UserError
from robustpolicy.training.pool import one_line
from robustpolicy.training.signals import Interrupted


@dataclass(frozen=True)
class Attempt:
    """What came of it: a value, or an error with its traceback, and its seconds."""

    value: Any = None
    error: str | None = None
    traceback: str = ""
    seconds: float = 0.0


def attempt(function: Callable[..., Any], arguments: tuple[Any, ...]) -> Attempt:
    """Call a function with one thread; its errors are told, not raised."""
    import torch

    # A small network is fastest with one thread a process, and the count changes the last digits.
    torch.set_num_threads(1)
    begun = time.perf_counter()
    try:
        value = function(*arguments)
    except Exception as error:
        told = "" if isinstance(error, UserError | Interrupted) else traceback.format_exc()
        return Attempt(error=one_line(error), traceback=told, seconds=time.perf_counter() - begun)
    return Attempt(value, seconds=time.perf_counter() - begun)
