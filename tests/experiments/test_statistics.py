"""Paired statistics against closed forms, published examples, and simulation."""

from math import comb

import numpy as np
import pytest
from scipy import stats

from robustpolicy.evaluation import wilson
from robustpolicy.experiments.statistics import holm, mcnemar, newcombe, paired_t, t_interval

#: both, only a, only b, neither; Newcombe's interval as printed.
PUBLISHED = [
    # Fagerland, Lydersen, Laake 2014 (Stat. Med. 33), data of Bentur et al. 2009.
    ((1, 1, 7, 12), (-0.507, -0.026), 3),
    # Fagerland, Lydersen, Laake 2017 (Statistical Analysis of Contingency Tables, chapter 8), data
    # of Cavo et al. 2012.
    ((59, 6, 16, 80), (-0.1186, -0.0046), 4),
    # Newcombe 1998 (Stat. Med. 17, 2635), his method 10.
    ((20, 12, 2, 16), (0.0562, 0.3292), 4),
]


@pytest.mark.parametrize(("table", "printed", "digits"), PUBLISHED)
def test_newcombes_interval_as_published(table, printed, digits):
    assert tuple(round(bound, digits) for bound in newcombe(*table)) == printed


@pytest.mark.parametrize(("table", "_printed", "_digits"), PUBLISHED)
def test_newcombes_interval_turns_with_the_models(table, _printed, _digits):
    both, only_a, only_b, neither = table
    low, high = newcombe(*table)
    assert newcombe(both, only_b, only_a, neither) == pytest.approx((-high, -low))
    assert newcombe(neither, only_a, only_b, both) == pytest.approx((low, high))
    wide = newcombe(*table, confidence=0.99)
    assert wide[0] < low < (only_a - only_b) / sum(table) < high < wide[1]


def test_newcombes_interval_at_the_edges():
    # One share alone can vary, and phi is 0: the two Wilson intervals, added in squares.
    _, top = wilson(0, 10)
    assert newcombe(0, 10, 0, 0) == pytest.approx((1 - np.hypot(top, top), 1))
    low, _ = newcombe(6, 0, 4, 0)
    assert low == pytest.approx(-0.4 - np.hypot(0.6 - wilson(6, 10)[0], 0))
    for table in [(10, 0, 0, 0), (0, 0, 0, 10), (5, 0, 0, 5), (500, 0, 0, 500), (0, 5, 5, 0)]:
        low, high = newcombe(*table)
        assert -1 <= low < 0 < high <= 1
        assert high == pytest.approx(-low)


@pytest.mark.parametrize("cells", [(0.5, 0.1, 0.1, 0.3), (0.85, 0.03, 0.08, 0.04)])
def test_newcombes_interval_covers_as_it_says(cells):
    draws = np.random.default_rng(0).multinomial(200, cells, size=4000)
    truth = cells[1] - cells[2]
    bounds = [newcombe(*map(int, draw)) for draw in draws]
    covered = np.mean([low <= truth <= high for low, high in bounds])
    assert 0.94 < covered < 0.97  # 4 standard errors of 4,000 draws are 1.4 points


@pytest.mark.parametrize("pair", [(0, 5), (1, 7), (6, 16), (3, 3), (250, 310)])
def test_mcnemar_is_the_binomial_tail(pair):
    n = sum(pair)
    tail = sum(comb(n, k) for k in range(min(pair) + 1))
    closed = min(1.0, 2 * tail / 2**n)
    assert mcnemar(*pair) == pytest.approx(closed, rel=1e-12)
    assert mcnemar(*pair[::-1]) == mcnemar(*pair)


def test_mcnemar_as_published():
    assert round(mcnemar(6, 16), 6) == 0.052479  # Cavo et al. 2012, as above
    assert mcnemar(0, 0) == 1.0


def test_holm():
    # 5 x .01, 4 x .02, 3 x .03; then 2 x .04 and 1 x .05 would be less than what stands before.
    assert holm([0.01, 0.02, 0.03, 0.04, 0.05]) == pytest.approx([0.05, 0.08, 0.09, 0.09, 0.09])
    assert holm([0.05, 0.03, 0.01, 0.04, 0.02]) == pytest.approx([0.09, 0.09, 0.05, 0.09, 0.08])
    assert holm([0.6, 0.7]) == [1.0, 1.0]
    assert holm([0.02]) == [0.02]
    assert holm([]) == []


def test_holm_keeps_the_family_wise_error():
    """Of ten comparisons with no difference, at most 5 % of families show one."""
    rng = np.random.default_rng(1)
    wrong = sum(min(holm(list(rng.random(10)))) < 0.05 for _ in range(4000))
    assert wrong / 4000 < 0.05 + 4 * (0.05 * 0.95 / 4000) ** 0.5


@pytest.mark.parametrize("n", [2, 3, 10])
def test_t_interval_and_paired_t_are_scipys(n):
    values = np.random.default_rng(n).normal(50, 3, n)
    low, high = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    assert t_interval(values.tolist()) == pytest.approx((low, high))
    other = np.random.default_rng(n + 1).normal(50, 3, n)
    expected = stats.ttest_rel(values, other).pvalue
    assert paired_t((values - other).tolist()) == pytest.approx(expected)


def test_t_interval_of_two_in_closed_form():
    # With one degree of freedom, t is Cauchy's: its quantile is a tangent.
    half = np.tan(np.pi * 0.45) * abs(3 - 1) / 2
    assert t_interval([1, 3], 0.9) == pytest.approx((2 - half, 2 + half))


def test_paired_t_without_spread():
    assert paired_t([0.0, 0.0, 0.0]) == 1
    assert paired_t([1.0, 1.0]) == 0


def test_t_interval_covers_the_mean_as_often_as_it_says():
    draws = np.random.default_rng(0).normal(size=(2000, 3))
    covered = np.mean([low < 0 < high for low, high in map(t_interval, draws.tolist())])
    assert abs(covered - 0.95) < 4 * np.sqrt(0.95 * 0.05 / 2000)
