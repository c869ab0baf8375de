"""An audit of adversarial robustness as one self-contained HTML page."""

from __future__ import annotations

import html
import io
import re
from itertools import cycle
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from jinja2 import Environment, PackageLoader
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from robustpolicy.report.figures import COLOURS
from robustpolicy.training.files import write_atomically

#: A fixed salt gives the same ids, outlined letters look the same on every machine, and a ``$``
#: in a text starts no formula.
STYLE: Any = {
    "svg.hashsalt": "robustpolicy",
    "svg.fonttype": "path",
    "text.parse_math": False,
    "font.size": 8,
    "axes.spines.top": False,
    "axes.spines.right": False,
}
INK = "#333333"
MISSING = "–"
#: Long measured lists would drown the rest; the audit's JSON has them whole.
LONGEST_LIST = 8


def write_audit_page(audit: dict[str, Any], path: Path) -> None:
    """Write the page, whole or not at all.

    Args:
        audit: see `audit_page`.
        path: file to write.

    Raises:
        UserError: the disk is full or not writable; ``path`` is as it was before.
    """
    page = audit_page(audit).encode()
    write_atomically(path, lambda temporary: temporary.write_bytes(page))  # type: ignore[arg-type]


def audit_page(audit: dict[str, Any]) -> str:
    """HTML of an audit, with nothing outside itself: no scripts, fonts or linked images.

    Args:
        audit: plain JSON: ``verdict``, ``summary``, ``reasons``, ``claim``, ``robust_accuracy``,
            ``interval``, ``checks``, ``attacks``, ``threat`` and so on. What is missing or null
            is left out of the page.

    Returns:
        The page; the same audit gives the same text.
    """
    environment = Environment(
        loader=PackageLoader("robustpolicy.report"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(show=_show, percent=_percent, duration=_duration, words=_words)
    # A picture's name starts the ids in it: two pictures of one page must not share any.
    pictures = [
        [
            (picture.get("title", ""), Markup(draw(picture, f"check{row}-{column}-")))
            for column, picture in enumerate(check.get("pictures") or ())
        ]
        for row, check in enumerate(audit.get("checks") or ())
    ]
    claim = None
    if all(audit.get(key) is not None for key in ("claim", "margin", "robust_accuracy")):
        claim = Markup(draw({**audit, "kind": "claim"}, "claim-"))
    return environment.get_template("audit.html").render(
        audit=audit, pictures=pictures, claim=claim
    )


def draw(picture: dict[str, Any], name: str = "picture-") -> str:
    """A picture as SVG to stand within HTML; its title is left to the caption around it.

    Args:
        picture: ``kind`` is lines, bars, heatmap, or claim (of a whole audit: claim against
            measured robust accuracy); the other keys depend on it.
        name: starts every id, so that the pictures of one page do not share any.

    Returns:
        An ``svg`` element that says in words what it shows, as ``aria-label``.
    """
    title, x, y = (picture.get(key) or "" for key in ("title", "xlabel", "ylabel"))
    kind, plot = {
        "lines": (f"{title}. Lines: {y} against {x}", _lines),
        "bars": (f"{title}. Bars: {y} of each {x}", _bars),
        "heatmap": (f"{title}. Heat map over {x} and {y}", _heatmap),
        "claim": ("Claim against measured robust accuracy", _claim),
    }[picture["kind"]]
    with matplotlib.rc_context(STYLE):
        figure = Figure((4.5, 1.5) if plot is _claim else (4.2, 2.8), layout="constrained")
        axes = figure.add_subplot(xlabel=x, ylabel=y)
        axes.set_axisbelow(True)
        shown = plot(figure, axes, picture)
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    return _inline(buffer.getvalue(), name, f"{kind}: {shown}")


def _inline(svg: str, name: str, label: str) -> str:
    """Only the ``svg`` element, with ids of its own and without what would reach the page."""
    svg = svg[svg.index("<svg") :]
    # Comments repeat texts, metadata has links, and a style here would hold for the whole page.
    svg = re.sub(r"<!--.*?-->|<metadata>.*?</metadata>|<style.*?</style>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'(\bid="|url\(#|href="#)', rf"\g<1>{name}", svg)
    svg = re.sub(r"\s*\n\s*", "\n", svg)
    described = f'<svg role="img" aria-label="{html.escape(label)}" stroke-linejoin="round"'
    return svg.replace("<svg", described, 1).strip()


def _lines(figure: Figure, axes: Axes, picture: dict[str, Any]) -> str:
    # Colour alone tells too little: lines differ in their dashes and markers too.
    styles = zip(cycle(COLOURS), cycle(("-", "--", "-.", ":")), cycle("osD^v"), strict=False)
    ends = []
    for (label, values), (colour, dash, marker) in zip(
        picture["series"].items(), styles, strict=False
    ):
        # The blank keeps a label that starts with an underscore in the legend.
        style: Any = {"color": colour, "linestyle": dash, "marker": marker, "label": f" {label}"}
        axes.plot(_numbers(picture["x"]), _numbers(values), markersize=3.5, **style)
        ends.append(f"{label} from {_show(values[0])} to {_show(values[-1])}" if values else label)
    if len(ends) > 1:  # above the axes, where it hides no point
        figure.legend(loc="outside upper left", ncols=2, frameon=False)
    axes.grid(alpha=0.3)
    return "; ".join(ends)


def _bars(figure: Figure, axes: Axes, picture: dict[str, Any]) -> str:
    labels = [str(label) for label in picture["labels"]]
    shown = [_show(value) for value in picture["values"]]
    bars = axes.bar(range(len(labels)), _numbers(picture["values"]), 0.65, color=COLOURS[0])
    axes.bar_label(bars, shown, padding=2)
    crowded = sum(map(len, labels)) > 45
    turn: dict[str, Any] = {"rotation": 30, "ha": "right"} if crowded else {}
    axes.set_xticks(range(len(labels)), labels, **turn)
    axes.margins(y=0.12)
    axes.grid(alpha=0.3, axis="y")
    return "; ".join(f"{label} {value}" for label, value in zip(labels, shown, strict=True))


def _heatmap(figure: Figure, axes: Axes, picture: dict[str, Any]) -> str:
    values = _numbers(picture["values"])
    if not np.isfinite(values).any():
        axes.text(0.5, 0.5, "no values", ha="center", transform=axes.transAxes)
        return "no values"
    axes.set_facecolor("#dddddd")  # what was not measured stays grey
    extent = tuple(picture["extent"])
    image = axes.imshow(values, "cividis", extent=extent, origin="lower", aspect="auto")
    figure.colorbar(image, ax=axes)
    axes.locator_params(nbins=5)
    return f"from {np.nanmin(values):.4g} to {np.nanmax(values):.4g}"


def _claim(figure: Figure, axes: Axes, audit: dict[str, Any]) -> str:
    """The claim and how far below it counts, above the measured robust accuracy."""
    claim, measured = 100 * audit["claim"], 100 * audit["robust_accuracy"]
    floor = claim - 100 * audit["margin"]
    text, low, high = f"measured {measured:.1f} %", measured, measured
    if audit.get("interval"):
        low, high = (100 * bound for bound in audit["interval"])
        text += f" ({low:.1f} to {high:.1f} %)"
    axes.axvspan(floor, claim, 0.27, color=COLOURS[1], alpha=0.15, linewidth=0)
    axes.axvline(floor, 0.27, color=INK, linestyle="--", linewidth=1)
    axes.axvline(claim, 0.27, color=INK, linewidth=1.5)
    axes.text(floor, 0.8, f"claim less margin {floor:.1f} % ", ha="right", va="center")
    axes.text(claim, 0.8, f" claim {claim:.1f} %", ha="left", va="center")
    axes.hlines(0.4, low, high, color=COLOURS[0], linewidth=7, alpha=0.45, capstyle="butt")
    axes.plot([measured], [0.4], "o", color=COLOURS[0], markeredgecolor="white", markersize=8)
    axes.text((low + high) / 2, 0.15, text, ha="center", va="center")
    points = (floor, claim, low, high)
    # The labels stand left and right of the lines, and need the room.
    pad = max(0.9 * (max(points) - min(points)), 3)
    axes.set(xlim=(min(points) - pad, max(points) + pad), ylim=(0, 1), yticks=[])
    left, right = axes.get_xlim()
    axes.set_xticks([x for x in axes.get_xticks() if max(left, 0) <= x <= min(right, 100)])
    axes.spines["left"].set_visible(False)
    axes.set_xlabel("robust accuracy, %")
    return f"claim {claim:.1f} %, claim less margin {floor:.1f} %, {text}"


def _numbers(values: Any) -> np.ndarray:
    """Values as floats; null and what is not finite become gaps."""
    array = np.asarray(values, dtype=float)  # None becomes NaN
    return np.where(np.isfinite(array), array, np.nan)


def _show(value: Any) -> str:
    """A measured value in a few characters.

    >>> _show(0.123456), _show(True), _show(None), _show([1, 0.5])
    ('0.1235', 'yes', '–', '1, 0.5')
    """
    if value is None or value == "":
        return MISSING
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, dict):
        return ", ".join(f"{_words(key)} {_show(item)}" for key, item in value.items())
    if isinstance(value, list):
        rest = ", …" if len(value) > LONGEST_LIST else ""
        return ", ".join(_show(item) for item in value[:LONGEST_LIST]) + rest
    return str(value)


def _percent(value: float | None) -> str:
    return f"{100 * value:.1f} %" if isinstance(value, int | float) else MISSING


def _duration(seconds: float | None) -> str:
    if not isinstance(seconds, int | float):
        return MISSING
    if seconds < 100:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s"


def _words(name: str) -> str:
    return str(name).replace("_", " ")
