"""The paper's tables as data: as printed, whole, and reduced only with a mark."""

import pytest

from robustpolicy import UserError
from robustpolicy.attacks import ATTACKS
from robustpolicy.data import SOURCES
from robustpolicy.evaluation.plan import EPSILON
from robustpolicy.experiments.paper import ATTACK_NAMES, EXPERIMENTS, IMAGES, PAPER, surrogate_of
from robustpolicy.experiments.paper.printed import PENALTIES, TABLE_1, TABLE_2, TABLE_6, number
from robustpolicy.training.recipe import CrossEntropy, TwoStage

ROWS = [(e, row) for e in EXPERIMENTS.values() for row in e.rows]


@pytest.mark.parametrize(
    ("table", "sums"),
    # Added up from a second transcript of the paper.
    [
        (TABLE_1, {"clean": 4469.87, "fgsm": 2480.882, "pgd": 1510.37}),
        (TABLE_2, {"clean": 4857.86, "fgsm": 4184.25, "pgd": 2993.33}),
    ],
)
def test_grids_are_as_printed(table, sums):
    assert set(table) == {(first, second) for first in PENALTIES for second in PENALTIES}
    for measure, total in sums.items():
        assert sum(number(cell[measure]) for cell in table.values()) == pytest.approx(total)


def test_single_cells_are_as_printed():
    assert TABLE_1[0.1, 0.1] == {"clean": "90.00", "fgsm": "53.942", "pgd": "37.46"}
    assert TABLE_1[0.75, 1.25] == {"clean": "92.16", "fgsm": "64.87", "pgd": "49.1"}
    assert TABLE_1[1.5, 0.75]["fgsm"] == "43.1"
    assert TABLE_2[0.75, 1.5] == {"clean": "99.21", "fgsm": "86.40", "pgd": "63.73"}
    assert TABLE_2[1.5, 1.25]["clean"] == "99.3"
    assert TABLE_6[None] == {"clean": "82.31", "pgd": "52.55", "autoattack": "48.25"}
    table5 = {row.key: row.paper for row in EXPERIMENTS["table5"].rows}
    assert (table5["policy"]["pgd-0.04"], table5["pc"]["pgd10-0.2"]) == ("43.8", "7.5")
    assert [row.paper["clean"] for row in EXPERIMENTS["table4"].rows] == [
        "92.21", "92.16", "10.00", "10.00",
    ]  # fmt: skip
    assert number("-") is None


@pytest.mark.parametrize("experiment", PAPER, ids=lambda one: one.name)
def test_what_the_paper_has_is_trained_with_its_protocol(experiment):
    for row in experiment.rows:
        assert row.recipe.protocol == "paper"
        known = {measure.key for measure in row.measures}
        assert set(row.paper) <= known
        assert not experiment.reduced
    keys = [row.key for row in experiment.rows]
    assert len(set(keys)) == len(keys)
    assert len({row.recipe for row in experiment.rows}) == len(keys)


def test_rows_are_the_papers_settings():
    table1 = {row.place: row for row in EXPERIMENTS["table1"].rows}
    recipe = table1[0.75, 1.25].recipe
    assert (recipe.dataset, recipe.model, recipe.epochs) == ("cifar10", "vgg13", 200)
    assert (recipe.loss.warmup_penalty, recipe.loss.penalty) == (0.75, 1.25)
    pgd = table1[0.75, 1.25].measures[2]
    assert (pgd.epsilon, dict(pgd.settings)) == (0.04, {"steps": 40, "step_size": 0.01})
    losses = [row.recipe.loss for row in EXPERIMENTS["table6"].rows]
    assert losses[0] == CrossEntropy()
    assert all(loss.switch_epoch == 75 for loss in losses[1:])
    assert EXPERIMENTS["table6"].measures[1].epsilon == 8 / 255
    actions = [row.recipe.loss.actions for row in EXPERIMENTS["table4"].rows[2:]]
    assert actions == ["sampled", "greedy"]
    sizes = {
        (m.epsilon, dict(m.settings).get("steps")): dict(m.settings).get("step_size")
        for m in EXPERIMENTS["table5"].measures
        if m.attack == "pgd"
    }
    assert sizes[0.12, 40] == 0.01
    assert sizes[0.12, 10] == pytest.approx(0.012)
    assert len(sizes) == 6
    same = [EXPERIMENTS["table3"].rows[3], EXPERIMENTS["table4"].rows[1],
            EXPERIMENTS["table5"].rows[1], table1[0.75, 1.25]]  # fmt: skip
    assert len({row.recipe for row in same}) == 1


def test_facts_that_stand_here_without_torch():
    assert set(ATTACK_NAMES) == {"clean", "transfer", *ATTACKS}
    assert {name: (s.train, s.test) for name, s in SOURCES.items()} == IMAGES
    for experiment, row in ROWS:
        if experiment.name not in ("table5", "table6"):
            assert {m.epsilon for m in row.measures} <= {EPSILON[row.recipe.dataset]}


def test_reductions_are_marked():
    whole = EXPERIMENTS["table2"]
    assert whole.mark == ""
    fewer = whole.with_penalties((0.1, 0.5, 1.5)).with_epochs(12).with_samples(500)
    assert len(fewer.rows) == 9
    assert fewer.mark == (
        "Reduced: 12 epochs in place of 200; at most 500 test images, drawn at random."
    )
    assert {row.recipe.optimizer.drops for row in fewer.rows} == {(3, 9)}
    assert {m.samples for row in fewer.rows for m in row.measures} == {500}
    assert whole.with_epochs(200) is whole
    assert whole.with_samples(10_000) is whole
    assert "without fgsm" in whole.with_attacks(["clean", "pgd"]).mark
    # What the paper does not have can be left out unmarked, or added.
    assert whole.with_attacks(["clean", "fgsm", "pgd"]).mark == ""
    added = whole.with_attacks(["clean", "fgsm", "pgd", "apgd-t"])
    assert [m.key for m in added.measures] == ["clean", "fgsm", "pgd", "apgd-t"]
    assert EXPERIMENTS["table6"].with_epochs(20).rows[1].recipe.loss.switch_epoch == 15


def test_parts_of_a_grid():
    part = EXPERIMENTS["table2"].with_penalties((0.1,), (0.5, 1.5))
    assert [row.place for row in part.rows] == [(0.5, 0.1), (1.5, 0.1)]
    part = EXPERIMENTS["table6"].with_penalties((0.5, 1.0))
    assert [row.key for row in part.rows] == ["ce", "policy-0.5", "policy-1"]


ERRORS = [
    (lambda: EXPERIMENTS["table2"].with_penalties((0.3,)), "--penalties has 0.3; choose some of"),
    (lambda: EXPERIMENTS["table2"].with_penalties((0.5,), (2,)), "--warmup-penalties has 2;"),
    (lambda: EXPERIMENTS["table3"].with_penalties((0.5,)), "has no grid"),
    (lambda: EXPERIMENTS["table6"].with_penalties((0.5,), (0.5,)), "has one warm-up"),
    (lambda: EXPERIMENTS["table2"].with_samples(0), "--samples is 0; give a number from 1"),
    (lambda: EXPERIMENTS["digits"].with_samples(361), "from 1 to 360"),
    (lambda: EXPERIMENTS["table2"].with_attacks(["cw"]), "--attacks has 'cw'; choose some of"),
    (lambda: EXPERIMENTS["table2"].with_attacks([]), "--attacks has nothing"),
]


@pytest.mark.parametrize(("call", "message"), ERRORS, ids=[message for _, message in ERRORS])
def test_bad_reductions(call, message):
    with pytest.raises(UserError, match=message):
        call()


def test_the_surrogate_is_another_model_of_the_same_kind():
    for experiment, row in ROWS:
        if experiment in PAPER:
            recipe = surrogate_of(row.recipe)
            assert (recipe.dataset, recipe.model) == (row.recipe.dataset, row.recipe.model)
            assert recipe.loss == CrossEntropy()
            assert recipe.epochs == 100
            assert recipe.seed == 1000
    short = EXPERIMENTS["table2"].with_epochs(12).rows[0].recipe
    assert surrogate_of(short).epochs == 12
    assert isinstance(short.loss, TwoStage)
