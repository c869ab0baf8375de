"""Comparisons in words and tables, from flags whose counts are known."""

import pytest

from robustpolicy.experiments.compare import pair
from robustpolicy.report.comparison import difference_table, paired_tables, sentences


def evaluation(**flags):
    return {"attacks": {name: {"robust": robust} for name, robust in flags.items()}}


def comparison(*evaluations):
    names = [f"run{number}" for number in range(len(evaluations))]
    return {"runs": [{"name": name} for name in names], "paired": pair(names, evaluations)}


A = evaluation(clean="1" * 90 + "0" * 10, pgd="1" * 50 + "0" * 50)
B = evaluation(clean="1" * 91 + "0" * 9, pgd="1" * 70 + "0" * 30)


def test_a_difference_in_words():
    # 20 samples against none: p = 2 / 2^20, and twice that after Holm. Newcombe's interval from
    # Wilson's, .6042 to .7811 and .4038 to .5962, and phi = 1450 / sqrt(70 30 50 50) = .6328.
    for pair_of, words in [((A, B), "more"), ((B, A), "fewer")]:
        (line,) = sentences(comparison(*pair_of))
        assert line == (
            f"run1 is robust on 20.0 points {words} than run0 under pgd (11.8 to 27.7), "
            "p < 0.0001 after Holm."
        )


def test_no_difference_in_words():
    clean = [evaluation(clean=one["attacks"]["clean"]["robust"]) for one in (A, B)]
    (line,) = sentences(comparison(*clean))
    assert line.startswith("run1 and run0: no difference shown without an attack (+1.0 points, ")
    assert line.endswith(", p = 1.0000 after Holm).")


def test_the_worst_case_is_a_comparison_where_two_attacks_make_it():
    two = evaluation(clean="1111", fgsm="1101", pgd="0111")
    other = evaluation(clean="1111", fgsm="1111", pgd="1000")
    found = pair(["a", "b"], [two, other])
    assert [one["attack"] for one in found] == ["clean", "fgsm", "pgd", "worst case"]
    worst = found[-1]  # 0101 against 1000
    assert [worst[key] for key in ("both", "only_reference", "only_run", "neither")] == [0, 2, 1, 1]
    assert worst["difference"] == pytest.approx(-0.25)
    assert [one["attack"] for one in pair(["a", "b"], [A, B])] == ["clean", "pgd"]


def test_every_run_is_held_against_the_first():
    tables = paired_tables(comparison(A, B, A))
    assert [table.title for table in tables] == [
        "Robust samples, A = run0, B = run1",
        "Robust samples, A = run0, B = run2",
    ]
    assert tables[0].rows[1][:6] == ("pgd", "50", "0", "20", "30", "+20.00")
    assert tables[1].rows[1][:6] == ("pgd", "50", "0", "0", "50", "+0.00")
    assert tables[1].rows[1][-2:] == ("1.0000", "1.0000")
    assert [bool(table.notes) for table in tables] == [False, True]


def test_fields_as_the_options_take_them():
    sides = {
        "differ": {"optimizer.drops": [[10, 30], [], None], "seed": [0, 1, 2]},
        "in_common": {"normalize": False, "optimizer.learning_rate": 0.1, "dataset": "mnist"},
    }
    environments = {"differ": {"torch": ["2.13.0", None, "2.9"]}, "in_common": {}}
    runs = [{"name": name} for name in "abc"]
    table = difference_table({"recipes": sides, "environments": environments, "runs": runs})
    assert table.rows == (
        ("optimizer.drops", "10 30", "–", "–"),
        ("seed", "0", "1", "2"),
        ("environment.torch", "2.13.0", "–", "2.9"),
    )
    assert table.notes == (
        "In common: normalize False, optimizer.learning_rate 0.1, dataset mnist.",
    )
