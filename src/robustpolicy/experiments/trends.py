"""Whether accuracy rises or falls along a penalty, by permutation over a grid."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import permutations
from math import comb, factorial, sqrt
from statistics import NormalDist

import numpy as np

#: Permutations drawn where there are too many to try them all.
DRAWS = 20_000
#: A mean rank correlation that a grid must be able to show, four times in five, before its
#: silence counts as an answer.
DETECTABLE = 0.5
LEVEL = 0.05


@dataclass(frozen=True)
class Trend:
    """How strongly values follow their order, over several lines of a grid.

    Attributes:
        correlation: Spearman's rank correlation with the order, mean over lines; 1 rises
            throughout.
        rising: p-value against no order, if more rise than chance would have.
        falling: the same for falling.
        lines: how many.
        length: values of the shortest.
        enough: whether a correlation of DETECTABLE would be shown with a probability of 0.8.
    """

    correlation: float
    rising: float
    falling: float
    lines: int
    length: int
    enough: bool

    @property
    def either(self) -> float:
        """P-value of a trend in whichever direction."""
        return min(1.0, 2 * min(self.rising, self.falling))


def trend(lines: Sequence[Sequence[float]], seed: int = 0) -> Trend:
    r"""Test for an order within each line: the mean of Spearman's rank correlations.

    Values are permuted within their lines, independently, which is all that "no order" allows
    (Page's test for ordered alternatives, 1963, is the same statistic). All permutations are
    tried where they are at most DRAWS, else as many are drawn, and p is
    :math:`(1 + \#\{T^* \ge T\}) / (1 + N)`.

    Args:
        lines: values in the order of the penalty; lines of one value say nothing.
        seed: of the draws.

    Example:
        >>> found = trend([[1, 2, 3], [1, 2, 3]])
        >>> found.correlation, round(found.rising, 4)  # one of the 6 x 6 orders
        (1.0, 0.0278)
    """
    ranked = [_ranks(line) for line in lines if len(line) > 1]
    if not ranked:
        return Trend(0.0, 1.0, 1.0, 0, 0, False)
    correlation = sum(_correlation(line) for line in ranked) / len(ranked)
    null, exact = _null(ranked, seed)
    above = int((null >= correlation - 1e-9).sum())
    below = int((null <= correlation + 1e-9).sum())
    drawn = 0 if exact else 1
    rising, falling = ((count + drawn) / (len(null) + drawn) for count in (above, below))
    # Var of a mean of rank correlations without order: 1 / (n - 1) each.
    deviation = sqrt(sum(1 / (len(line) - 1) for line in ranked)) / len(ranked)
    needed = NormalDist().inv_cdf(1 - LEVEL) + NormalDist().inv_cdf(0.8)
    enough = needed * deviation <= DETECTABLE
    shortest = min(map(len, ranked))
    return Trend(correlation, rising, falling, len(ranked), shortest, enough)


def lowest_by_chance(lowest: int, lines: int, length: int) -> float:
    """P-value of a place being the lowest of its line in so many lines: the binomial tail.

    Example:
        >>> lowest_by_chance(2, 2, 3)  # (1 / 3)^2
        0.1111111111111111
    """
    share = 1 / length
    terms = (
        comb(lines, k) * share**k * (1 - share) ** (lines - k) for k in range(lowest, lines + 1)
    )
    return min(1.0, sum(terms))


def _null(ranked: Sequence[np.ndarray], seed: int) -> tuple[np.ndarray, bool]:
    """Mean correlations without an order, and whether these are all that there can be."""
    orders = 1
    for line in ranked:
        orders *= factorial(len(line))
        if orders > DRAWS:
            break
    else:
        total = np.zeros(1)
        for line in ranked:
            each = np.array([_correlation(line[list(p)]) for p in permutations(range(len(line)))])
            total = (total[:, None] + each[None, :]).reshape(-1)
        return total / len(ranked), True
    generator = np.random.default_rng(seed)
    total = np.zeros(DRAWS)
    for line in ranked:
        shuffled = generator.permuted(np.tile(line, (DRAWS, 1)), axis=1)
        total += shuffled @ _centred(len(line)) / _scale(line)
    return total / len(ranked), False


def _ranks(values: Sequence[float]) -> np.ndarray:
    """Ranks less their mean; ties share theirs."""
    array = np.asarray(values, dtype=float)
    below = (array[:, None] > array[None, :]).sum(1)
    ties = (array[:, None] == array[None, :]).sum(1)
    ranks: np.ndarray = below + (ties - 1) / 2
    return ranks - ranks.mean()


@cache
def _centred(length: int) -> np.ndarray:
    return np.arange(length) - (length - 1) / 2


def _scale(ranks: np.ndarray) -> float:
    """What makes a product a correlation; ties throughout correlate with nothing."""
    return float(np.sqrt((ranks**2).sum() * (_centred(len(ranks)) ** 2).sum())) or 1.0


def _correlation(ranks: np.ndarray) -> float:
    return float(ranks @ _centred(len(ranks))) / _scale(ranks)
