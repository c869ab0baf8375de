"""``robustpolicy verify``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from robustpolicy.cli.parse import parse


@dataclass(frozen=True)
class Options:
    """Check every stored adversarial example of an evaluation anew.

    Each must lie in the ball and in the range, and the model must misclassify it.
    """

    evaluation: Annotated[Path, tyro.conf.Positional]
    """The --state folder of an evaluation."""
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """Where to run the model."""
    data_dir: tuple[Path, ...] = ()
    """Folders to look for the data in first."""


def run(arguments: Sequence[str]) -> int:
    """Verify, print what was found; 0 if all is well, 1 if not."""
    options = parse(Options, arguments, "verify")

    from robustpolicy.evaluation.verify import verify
    from robustpolicy.training.environment import resolve_device

    found = verify(options.evaluation, resolve_device(options.device), options.data_dir)
    print(
        f"{options.evaluation}: {found.examples} stored examples; {found.outside} outside the ball "
        f"or the range, {found.correct} classified correctly"
    )
    for line in found.complaints:
        print(line)
    return 0 if found.fine else 1
