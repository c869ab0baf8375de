"""Confidence intervals of shares."""

from __future__ import annotations

from math import sqrt
from statistics import NormalDist


def wilson(successes: int, n: int, confidence: float = 0.95) -> tuple[float, float]:
    """Wilson score interval of a share (Wilson 1927); right near 0 and 1 too.

    Args:
        successes: how many of ``n``.
        n: sample size, at least 1.
        confidence: such as 0.95.

    Returns:
        Lower and upper bound, in [0, 1].
    """
    z2 = NormalDist().inv_cdf(0.5 + confidence / 2) ** 2
    centre = (successes + z2 / 2) / (n + z2)
    half = sqrt(z2 * (successes * (n - successes) / n + z2 / 4)) / (n + z2)
    return max(0.0, centre - half), min(1.0, centre + half)
