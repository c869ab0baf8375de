"""Seeds: t intervals and tests. Samples: McNemar's test, Newcombe's interval. Holm's correction."""

from __future__ import annotations

from collections.abc import Sequence
from math import sqrt
from statistics import mean, stdev

from robustpolicy.evaluation.intervals import wilson


def t_interval(values: Sequence[float], confidence: float = 0.95) -> tuple[float, float]:
    r"""Interval of a mean over seeds, :math:`\bar x \pm t_{n-1} s / \sqrt n` (Student 1908).

    Args:
        values: one a seed, at least two.
        confidence: such as 0.95.

    Example:
        >>> [round(bound, 3) for bound in t_interval([1.0, 2.0])]  # 1.5 -+ 12.706 / 2
        [-4.853, 7.853]
    """
    from scipy.stats import t

    n = len(values)
    centre = mean(values)
    half = float(t.ppf(0.5 + confidence / 2, n - 1)) * stdev(values) / sqrt(n)
    return centre - half, centre + half


def paired_t(differences: Sequence[float]) -> float:
    """P-value of the paired t test, two-sided: whether differences seed by seed have mean 0.

    Args:
        differences: one a seed, at least two. All the same, they are 0 (p = 1) or have no spread
            to be judged by (p = 0).

    Example:
        >>> round(paired_t([1.0, 2.0, 3.0]), 4)  # t = 2 sqrt(3), 2 degrees of freedom
        0.0742
    """
    from scipy.stats import t

    n = len(differences)
    spread = stdev(differences)
    if spread == 0:
        return float(mean(differences) == 0)
    return float(2 * t.sf(abs(mean(differences)) / (spread / sqrt(n)), n - 1))


def mcnemar(only_a: int, only_b: int) -> float:
    """P-value of McNemar's exact test, two-sided (McNemar 1947, in its binomial form).

    Where two models are equally good, a sample that only one of them gets right is as likely to
    be the one's as the other's: ``only_a ~ Binomial(only_a + only_b, 1/2)``. Samples on which
    they agree say nothing.

    Args:
        only_a: samples that only the first model gets right.
        only_b: samples that only the second one gets right.

    Example:
        >>> mcnemar(1, 7)  # 2 (1 + 8) / 2^8
        0.0703125
    """
    from scipy.stats import binomtest  # not at the top: the core runs without scipy

    if only_a + only_b == 0:
        return 1.0
    return float(binomtest(only_a, only_a + only_b, 0.5).pvalue)


def newcombe(
    both: int, only_a: int, only_b: int, neither: int, confidence: float = 0.95
) -> tuple[float, float]:
    r"""Interval of the difference of two shares of the same samples, ``p_a - p_b``.

    With Wilson's bounds :math:`l, u` of either share and the correlation :math:`\phi` between
    the two, for :math:`d = (\mathrm{only}_a - \mathrm{only}_b) / n`:

    .. math::
        d - \sqrt{(p_a - l_a)^2 - 2 \phi (p_a - l_a)(u_b - p_b) + (u_b - p_b)^2}
        \quad\text{to}\quad
        d + \sqrt{(u_a - p_a)^2 - 2 \phi (u_a - p_a)(p_b - l_b) + (p_b - l_b)^2}

    Newcombe 1998, "Improved confidence intervals for the difference between binomial proportions
    based on paired data", method 10: a positive :math:`\phi` is corrected for continuity.

    Args:
        both: samples that both models get right.
        only_a: samples that only the first gets right.
        only_b: samples that only the second gets right.
        neither: samples that neither gets right.
        confidence: such as 0.95.

    Returns:
        Lower and upper bound, in [-1, 1].
    """
    n = both + only_a + only_b + neither
    right_a, right_b = both + only_a, both + only_b
    p_a, p_b = right_a / n, right_b / n
    (low_a, high_a), (low_b, high_b) = (wilson(k, n, confidence) for k in (right_a, right_b))
    margins = right_a * (n - right_a) * right_b * (n - right_b)
    covariance: float = both * neither - only_a * only_b
    if covariance > 0:
        covariance = max(covariance - n / 2, 0)
    phi = covariance / sqrt(margins) if margins else 0.0
    below = _side(p_a - low_a, high_b - p_b, phi)
    above = _side(high_a - p_a, p_b - low_b, phi)
    difference = (only_a - only_b) / n
    return difference - below, difference + above


def holm(p_values: Sequence[float]) -> list[float]:
    """P-values adjusted for their number, in the order given (Holm 1979).

    The k-th smallest of m is multiplied by m - k + 1, and none is below a smaller one's. Holds
    however they depend on each other.

    Example:
        >>> holm([0.01, 0.04, 0.02])
        [0.03, 0.04, 0.04]
    """
    adjusted = [0.0] * len(p_values)
    least = 0.0
    for rank, place in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        least = max(least, min(1.0, (len(p_values) - rank) * p_values[place]))
        adjusted[place] = least
    return adjusted


def _side(a: float, b: float, phi: float) -> float:
    """Length of one side of the interval; rounding must not make the root imaginary."""
    return sqrt(max(0.0, a * a - 2 * phi * a * b + b * b))
