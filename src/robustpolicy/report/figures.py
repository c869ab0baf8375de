"""Figures, drawn with matplotlib without a display."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np

matplotlib.use("Agg")

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

#: Colour-blind safe (Okabe & Ito) and distinct in grey.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7")
#: Lines beyond the last colour.
STYLES = ("-", "--", "-.")


def demo_figure(
    histories: dict[str, list[dict[str, Any]]],
    examples: dict[str, tuple[Tensor, Tensor, Tensor, Tensor]],
    epsilon: float,
) -> Figure:
    """Training curves above, adversarial examples below.

    Args:
        histories: label of a training -> its records, one an epoch.
        examples: label of a training -> clean images and adversarial ones (N, C, H, W), the
            labels and the predictions for the adversarial ones (N,).
        epsilon: radius of the ball, for the caption.
    """
    count = len(next(iter(examples.values()))[0])
    rows = 2 * len(examples)
    figure = plt.figure(figsize=(1.15 * count, 3.4 + 1.25 * rows), layout="constrained")
    top, bottom = np.asarray(figure.subfigures(2, 1, height_ratios=(3.4, 1.25 * rows)))
    _both_curves(top.subplots(1, 2), histories)
    axes = bottom.subplots(rows, count)
    for block, (label, (clean, adversarial, labels, predictions)) in enumerate(examples.items()):
        for column in range(count):
            above, below = axes[2 * block, column], axes[2 * block + 1, column]
            _image(above, clean[column])
            _image(below, adversarial[column])
            above.set_title(f"{int(labels[column])}", fontsize=9)
            fooled = int(predictions[column]) != int(labels[column])
            below.set_title(
                f"{int(predictions[column])}{' wrong' if fooled else ''}",
                fontsize=9,
                color=COLOURS[1] if fooled else COLOURS[2],
            )
        axes[2 * block, 0].set_ylabel(f"{label}\nclean", fontsize=8)
        axes[2 * block + 1, 0].set_ylabel(f"PGD\neps {epsilon:g}", fontsize=8)
    return figure


def curves_figure(histories: dict[str, list[dict[str, Any]]]) -> Figure:
    """Training loss and watched accuracy over epochs.

    Args:
        histories: label of a training -> its records, one an epoch.
    """
    figure = plt.figure(figsize=(10, 4), layout="constrained")
    _both_curves(figure.subplots(1, 2), histories)
    return figure


def panels_figure(
    titles: Sequence[str],
    panels: Sequence[dict[str, tuple[Sequence[float], int | None]]],
    note: str = "",
) -> Figure:
    """Training loss over epochs, several panels beside each other.

    Args:
        titles: one a panel.
        panels: label of a training -> its losses, one an epoch, and the epoch (from 1) in which
            its second stage begins.
        note: stands below, such as how the trainings are reduced.
    """
    figure = plt.figure(figsize=(4.2 * len(panels), 3.8), layout="constrained")
    for axes, title, curves in zip(
        np.atleast_1d(figure.subplots(1, len(panels))), titles, panels, strict=True
    ):
        histories = {
            label: [
                {"epoch": n, "loss": loss, "stage": 1 if second is None or n < second else 2}
                for n, loss in enumerate(losses, 1)
            ]
            for label, (losses, second) in curves.items()
        }
        _curves(axes, histories, "loss", title, 1)
        axes.legend(frameon=False, fontsize=7)
    if note:
        figure.supxlabel(note, fontsize=8)
    return figure


def save_figure(figure: Figure, path: Path) -> None:
    """Save and close a figure."""
    figure.savefig(path, dpi=130)
    plt.close(figure)


def _both_curves(axes: Any, histories: dict[str, list[dict[str, Any]]]) -> None:
    _curves(axes[0], histories, "loss", "training loss", 1)
    _curves(axes[1], histories, "watched_accuracy", "accuracy on held-out samples, %", 100)
    axes[1].legend(frameon=False, fontsize=8)


def _curves(
    axes: Axes, histories: dict[str, list[dict[str, Any]]], key: str, title: str, scale: float
) -> None:
    for number, (label, history) in enumerate(histories.items()):
        colour = COLOURS[number % len(COLOURS)]
        style = STYLES[number // len(COLOURS) % len(STYLES)]
        epochs = [record["epoch"] for record in history]
        values = [scale * record[key] for record in history]
        marker = "o" if len(epochs) == 1 else None  # a line of one point is nothing
        axes.plot(epochs, values, style, color=colour, label=label, marker=marker)
        switch = next((r["epoch"] for r in history if r.get("stage") == 2), None)
        if switch is not None:
            axes.axvline(switch - 0.5, color=colour, linestyle=":", linewidth=1)
    axes.set_xlabel("epoch (dotted: second stage begins)", fontsize=8)
    axes.set_title(title, fontsize=9)
    axes.grid(alpha=0.3)
    axes.tick_params(labelsize=8)


def _image(axes: Axes, image: Tensor) -> None:
    picture = image.permute(1, 2, 0).cpu().numpy()
    axes.imshow(picture, cmap="gray", vmin=0, vmax=1)
    axes.set_xticks([])
    axes.set_yticks([])
