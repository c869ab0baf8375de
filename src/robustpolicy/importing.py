"""``module:callable``: the name of something of the user's own, and calling it."""

from __future__ import annotations

import importlib
import inspect
import os
import re
import sys
import sysconfig
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from robustpolicy.errors import UserError

_REFERENCE = re.compile(r"[^\W\d][\w.]*:[^\W\d]\w*")
_PACKAGE = str(Path(__file__).parent)
_LIBRARIES = tuple(sysconfig.get_paths()[kind] for kind in ("stdlib", "purelib", "platlib"))


def is_reference(name: str) -> bool:
    """Whether a name has the form ``module:callable``.

    >>> is_reference("mine.models:make"), is_reference("pictures"), is_reference("C:/pictures")
    (True, False, False)
    """
    return _REFERENCE.fullmatch(name) is not None


def load(reference: str, returns: str) -> Any:
    """Import ``module:callable`` from the working folder or the path, without calling it.

    Args:
        reference: such as ``"mine:make"``; importing it runs the module's code.
        returns: what it must return, in words, for errors.

    Raises:
        UserError: it cannot be imported, or there is nothing of that name.
    """
    module, _, name = reference.partition(":")
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    with user_code(reference, returns):
        return getattr(importlib.import_module(module), name)


def call(
    reference: str, function: Callable[..., Any], returns: str, num_classes: int | None = None
) -> Any:
    """Call a function of the user's, with the number of classes if it asks for it.

    It asks by a parameter ``num_classes``, or by a positional one without a default.

    Args:
        reference: where it is from, for errors.
        function: what :func:`load` gave.
        returns: what it must return, in words, for errors.
        num_classes: offered unless None.

    Raises:
        UserError: the function raised an error; named with its file and line.
    """
    with user_code(reference, returns):
        try:
            parameters = inspect.signature(function).parameters
        except (TypeError, ValueError):  # some functions written in C do not say
            return function()
        if num_classes is None:
            return function()
        if "num_classes" in parameters:
            return function(num_classes=num_classes)
        positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
        asks = any(
            parameter.kind in positional and parameter.default is parameter.empty
            for parameter in parameters.values()
        )
        return function(num_classes) if asks else function()


@contextmanager
def user_code(reference: str, returns: str) -> Iterator[None]:
    """Within it, any error becomes one line that names the user's file and line.

    Raises:
        UserError: whatever was raised.
    """
    try:
        yield
    except (Exception, SystemExit) as error:  # the user's code can raise anything
        raise UserError(
            f"{reference} failed: {describe_error(error)}; it must be importable from here and "
            f"return {returns}"
        ) from None


def describe_error(error: BaseException) -> str:
    """Kind, text and place of an error: the innermost line of code that is the user's own."""
    text = " ".join(str(error).split())[:200]
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if not frame.filename.startswith((_PACKAGE, "<")) and "importlib" not in frame.filename
    ]
    # An error inside a library is better placed where the user called it.
    frames = [f for f in frames if not f.filename.startswith(_LIBRARIES)] or frames
    place = f" ({Path(frames[-1].filename).name}, line {frames[-1].lineno})" if frames else ""
    return f"{type(error).__name__}: {text}{place}" if text else f"{type(error).__name__}{place}"
