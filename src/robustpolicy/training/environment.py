"""Where a run takes place: versions, hardware, device, threads."""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from robustpolicy.errors import UserError
from robustpolicy.version import __version__

DEVICES = ("auto", "cpu", "cuda", "mps")

#: What must be equal for a resumed run to be bit-identical to an undisturbed one.
DECISIVE = (
    "machine", "cpu", "device", "torch", "robustpolicy", "threads", "precision", "captured",
    "processes",
)  # fmt: skip
PRECISIONS = ("auto", "float32", "bfloat16")


@dataclass(frozen=True)
class Execution:
    """How a training runs; what it trains is the recipe's.

    Attributes:
        device: where.
        precision: ``"float32"`` or ``"bfloat16"``.
        capture: whether steps are replayed as a CUDA graph.
    """

    device: torch.device
    precision: str
    capture: bool

    @classmethod
    def choose(cls, device: str, precision: str = "auto", capture: bool | None = None) -> Execution:
        """The fastest that this machine has, where nothing is asked for.

        Raises:
            UserError: an unknown name, or what this machine lacks.
        """
        where = resolve_device(device)
        cuda = where.type == "cuda"
        if precision not in PRECISIONS:
            raise UserError(f"precision is {precision!r}; choose one of {', '.join(PRECISIONS)}")
        if precision == "auto":
            precision = "bfloat16" if cuda and torch.cuda.is_bf16_supported() else "float32"
        if precision == "bfloat16" and where.type == "mps":
            raise UserError("bfloat16 training is for cpu and cuda; use --precision float32")
        if capture and not cuda:
            raise UserError(f"a step is captured with cuda alone, not {where.type}; leave it out")
        return cls(where, precision, cuda if capture is None else capture)


def set_threads(threads: int | None) -> None:
    """Let torch use this many CPU threads; None leaves its own choice.

    Raises:
        UserError: none, or far more than there are cores.
    """
    if threads is None:
        return
    most = 4 * (os.cpu_count() or 1)
    if not 1 <= threads <= most:
        raise UserError(f"--threads is {threads}; give 1 to {most}")
    torch.set_num_threads(threads)


def resolve_device(name: str) -> torch.device:
    """The device of a name; ``"auto"`` takes CUDA, then MPS, then the CPU.

    Raises:
        UserError: an unknown name, or a device that this machine lacks.
    """
    kind, _, number = name.partition(":")
    there = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": _has_mps()}
    if name == "auto":
        return torch.device(next(k for k in ("cuda", "mps", "cpu") if there[k]))
    if kind not in there or (number and not number.isdigit()):
        raise UserError(f"unknown device {name!r}; choose one of {', '.join(DEVICES)}")
    if not there[kind]:
        raise UserError(f"this machine has no {kind} device that torch can use; use --device cpu")
    return torch.device(name)


def describe_environment(device: torch.device) -> dict[str, Any]:
    """Versions and hardware, as plain data for run folders and results."""
    return {
        "robustpolicy": __version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "system": f"{platform.system()} {platform.machine()}",
        "machine": platform.node(),
        "cpu": _cpu_name(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
    }


def public_environment(environment: dict[str, Any]) -> dict[str, Any]:
    """The same without the machine's own name: for results that are published."""
    return {key: value for key, value in environment.items() if key != "machine"}


def changes(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """What has changed since a run began that can change its numbers, in words."""
    if not before:
        return ["where it began is not known"]
    return [
        f"{key} {before[key]} -> {now[key]}"
        for key in DECISIVE
        if key in before and before[key] != now.get(key)
    ]


def _has_mps() -> bool:
    return torch.backends.mps.is_available()


def _cpu_name() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
