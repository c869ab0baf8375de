"""Trends over a grid: against Page's test, by simulation, and the paper's claims."""

import numpy as np
import pytest
from scipy import stats

from robustpolicy.experiments.claims import CLAIMS, Claim, judge, judge_claims
from robustpolicy.experiments.measurements import measurements
from robustpolicy.experiments.paper import EXPERIMENTS
from robustpolicy.experiments.results import Results
from robustpolicy.experiments.trends import lowest_by_chance, trend

RISES = Claim("rises", "lambda_2", "rises")
NOTHING = Claim("nothing", "lambda_2", "nothing")
LOWEST = Claim("lowest", "lambda_2", "lowest")


@pytest.mark.parametrize("seed", range(4))
def test_small_grids_give_pages_exact_p(seed):
    data = np.random.default_rng(seed).normal(size=(3, 4)) + 0.3 * np.arange(4)
    found = trend(data.tolist())
    assert found.rising == pytest.approx(stats.page_trend_test(data, method="exact").pvalue)
    falling = stats.page_trend_test(data[:, ::-1], method="exact").pvalue
    assert found.falling == pytest.approx(falling)
    rho = [stats.spearmanr(range(4), line).statistic for line in data]
    assert found.correlation == pytest.approx(np.mean(rho))


def test_large_grids_come_close_to_it():
    data = np.random.default_rng(1).normal(size=(7, 7)) + 0.12 * np.arange(7)
    exact = stats.page_trend_test(data, method="exact").pvalue
    assert trend(data.tolist()).rising == pytest.approx(exact, abs=0.01)
    assert trend(data.tolist()) == trend(data.tolist())  # seeded


def test_ties_and_lines_of_one():
    tied = trend([[1, 1, 2], [5.0]])
    assert tied.lines == 1
    assert tied.correlation == pytest.approx(stats.spearmanr([0, 1, 2], [1, 1, 2]).statistic)
    flat = trend([[1, 1, 1]])
    assert (flat.correlation, flat.rising, flat.falling) == (0, 1, 1)
    assert trend([]).lines == 0


def test_without_an_order_five_in_a_hundred_are_called_one():
    generator = np.random.default_rng(0)
    p = [trend(generator.normal(size=(3, 3)).tolist()).rising for _ in range(600)]
    # At most: 216 orders give p-values in steps.
    assert 0.02 < np.mean(np.asarray(p) < 0.05) < 0.05 + 4 * np.sqrt(0.05 * 0.95 / 600)


def test_what_is_called_enough_shows_a_correlation_of_a_half():
    """7 x 7 is enough: four times in five, such a trend is found."""
    generator = np.random.default_rng(0)
    slope = 0.25  # gives a mean rank correlation of about .45 to .5
    lines = [generator.normal(size=(7, 7)) + slope * np.arange(7) for _ in range(150)]
    found = [trend(one.tolist()) for one in lines]
    assert all(one.enough for one in found)
    assert 0.4 < np.mean([one.correlation for one in found]) < 0.5
    assert np.mean([one.rising < 0.05 for one in found]) > 0.8
    assert not trend([[1, 2, 3]] * 3).enough


def test_lowest_by_chance_is_a_binomial_tail():
    for lowest in range(8):
        expected = stats.binom.sf(lowest - 1, 7, 1 / 7)
        assert lowest_by_chance(lowest, 7, 7) == pytest.approx(expected)


def grid(value):
    places = (0.1, 0.5, 1.5)
    return {(a, b): value(a, b) for a in places for b in places}


@pytest.mark.parametrize(
    ("claim", "value", "answer"),
    [
        (RISES, lambda a, b: b, "holds"),
        (RISES, lambda a, b: -b, "does not hold"),
        (RISES, lambda a, b: (a * 7 + b * 13) % 1, "not enough data"),
        (Claim("falls", "lambda_1", "falls"), lambda a, b: -a, "holds"),
        (NOTHING, lambda a, b: b, "does not hold"),
        (NOTHING, lambda a, b: (a * 7 + b * 13) % 1, "not enough data"),
        (LOWEST, lambda a, b: abs(b - 0.5), "holds"),
        (LOWEST, lambda a, b: b, "does not hold"),
    ],
)
def test_answers(claim, value, answer):
    assert judge(claim, grid(value), "ours", "PGD").answer == answer


def test_no_data_is_no_answer():
    for claim in (RISES, NOTHING, LOWEST):
        found = judge(claim, {}, "ours", "PGD")
        assert (found.answer, found.p) == ("not enough data", None)
        assert judge(claim, {(0.1, 0.5): 1.0}, "ours", "PGD").answer == "not enough data"


def test_the_claims_on_the_papers_own_cells():
    answers = {
        (name, one.claim.text, one.measure): one.answer
        for name in CLAIMS
        for one in judge_claims(name, measurements(EXPERIMENTS[name], Results()))
        if one.source == "paper"
    }
    rises, falls, lowest = (claim.text for claim in CLAIMS["table1"])
    assert answers["table1", rises, "PGD-40"] == "holds"
    assert answers["table1", falls, "PGD-40"] == "holds"
    assert answers["table1", lowest, "PGD-40"] == "holds"
    assert answers["table1", lowest, "FGSM"] == "does not hold"
    along_2, along_1 = (claim.text for claim in CLAIMS["table2"])
    # The paper sees no tendency on MNIST; along lambda_2 its own cells have one.
    assert answers["table2", along_2, "PGD-40"] == "does not hold"
    assert answers["table2", along_1, "PGD-40"] == "holds"
