"""The command line. Bad input ends with one clear line and exit code 2, never a traceback."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Sequence

from robustpolicy.errors import UserError
from robustpolicy.memory import keep_freed_memory
from robustpolicy.version import __version__

#: command -> (module of this package, what it does). Modules are imported when they are called.
COMMANDS = {
    "demo": ("demo", "Train and attack on the embedded digits, in about a minute."),
    "train": ("train", "Train a recipe in a run folder, or resume it."),
    "evaluate": ("evaluate", "Measure robust accuracy of a run, a model of yours, or weights."),
    "audit": ("audit", "Judge whether a model's robustness is real."),
    "compare": ("compare", "Compare finished runs: recipes, curves, robust samples in pairs."),
    "verify": ("verify", "Check the stored adversarial examples of an evaluation anew."),
    "reproduce": ("reproduce", "Run a table of experiments, the paper's numbers beside ours."),
    "results": ("results", "List, show or export what is measured; test the paper's claims."),
    "data": ("data", "List, fetch or check data sets."),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if not arguments or arguments[0] in ("-h", "--help"):
        print(_help())
        return 0
    if arguments[0] in ("-V", "--version"):
        print(f"robustpolicy {__version__}")
        return 0
    command, *rest = arguments
    with warnings.catch_warnings():
        warnings.showwarning = _warn
        return _run(command, rest)


def _run(command: str, rest: Sequence[str]) -> int:
    try:
        if command not in COMMANDS:
            raise UserError(f"unknown command {command!r}; choose one of {', '.join(COMMANDS)}")
        keep_freed_memory()
        return _load(command)(rest) or 0
    except UserError as error:
        print(f"robustpolicy: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:  # the reader of a pipe has gone, as after `| head`
        sys.stderr.close()
        return 141
    except OSError as error:  # a path that is too long, a disk that went away
        what = f"{error.filename}: " if error.filename else ""
        print(f"robustpolicy: {what}{error.strerror or error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("robustpolicy: interrupted", file=sys.stderr)
        return 130
    except Exception as error:
        # Known by name: importing it here would import torch for every command.
        if type(error).__name__ != "Interrupted":
            raise
        print(f"robustpolicy: {error}", file=sys.stderr)
        return 128 + error.signum  # type: ignore[attr-defined]


def _warn(message: Warning | str, *_: object, **__: object) -> None:
    """A warning in one line, without the place in our code that gave it."""
    print(f"warning: {message}", file=sys.stderr, flush=True)


def _load(command: str) -> Callable[[Sequence[str]], int | None]:
    import importlib

    return importlib.import_module(f"{__name__}.{COMMANDS[command][0]}").run


def _help() -> str:
    width = max(map(len, COMMANDS))
    lines = [f"  {name:{width}}  {text}" for name, (_, text) in COMMANDS.items()]
    return "\n".join(
        [
            f"robustpolicy {__version__}: policy-gradient losses, honestly evaluated",
            "",
            "usage: robustpolicy COMMAND [OPTIONS]",
            "",
            "commands:",
            *lines,
            "",
            "robustpolicy COMMAND --help lists the options of a command.",
        ]
    )
