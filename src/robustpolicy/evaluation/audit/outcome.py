"""What a check reports, and the attempts it may rest on."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

#: Kinds of attack. White-box and adaptive ones follow gradients of the model, the second through
#: a stand-in; the others do not.
WHITE = ("white-box", "adaptive")
BLACK = ("black-box", "transfer", "random")


@dataclass(frozen=True)
class Attempt:
    """One attack on some of the samples.

    Attributes:
        kind: one of ``WHITE`` or ``BLACK``.
        tried: which samples it was run on, bool, shape (N,).
        fooled: which of them it fooled with a verified example, bool, shape (N,).
        config: its whole configuration.
        seconds: wall time.
        error: why it could not run; empty if it ran.
    """

    kind: str
    tried: Tensor
    fooled: Tensor
    config: dict[str, Any]
    seconds: float = 0.0
    error: str = ""


@dataclass(frozen=True)
class Outcome:
    """What a check measured, its rule, and whether it holds.

    Attributes:
        passed: None where the check could not or need not run; the explanation says why.
        measured: plain data.
        rule: the rule with its threshold, in words.
        explanation: what it means, in words.
        pictures: plain data to draw: lines, bars or a heatmap.
    """

    passed: bool | None
    measured: dict[str, Any]
    rule: str
    explanation: str
    pictures: tuple[dict[str, Any], ...] = field(default=(), repr=False)


def lines(
    title: str, xlabel: str, ylabel: str, x: list[Any], **series: list[Any]
) -> dict[str, Any]:
    """A picture of lines over ``x``."""
    named = {label.replace("_", " "): values for label, values in series.items()}
    return {"kind": "lines", "title": title, "xlabel": xlabel, "ylabel": ylabel, "x": x,
            "series": named}  # fmt: skip


def bars(title: str, ylabel: str, heights: dict[str, float]) -> dict[str, Any]:
    """A picture of bars."""
    return {"kind": "bars", "title": title, "xlabel": "", "ylabel": ylabel,
            "labels": list(heights), "values": list(heights.values())}  # fmt: skip
