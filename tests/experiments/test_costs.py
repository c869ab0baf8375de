"""What a sweep costs: FLOPs against a counter, time from what finished cells took."""

import dataclasses
import json

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from robustpolicy.data import get_source
from robustpolicy.experiments.cells import plan_cells
from robustpolicy.experiments.costs import (
    FLOPS,
    Clock,
    cpu_name,
    measure_flops,
    measure_pace,
    sweep_flops,
    training_flops,
)
from robustpolicy.experiments.curves import fluctuation, training_curves
from robustpolicy.experiments.paper import EXPERIMENTS, Measure
from robustpolicy.experiments.results import Results
from robustpolicy.models import build_model
from robustpolicy.report.export import export
from robustpolicy.report.training_curves import draw_figure3
from robustpolicy.training.environment import describe_environment
from tests.experiments.cases import GRID


@pytest.mark.parametrize("name", FLOPS)
def test_flops_are_those_counted(name):
    shape = get_source("mnist" if name in ("lenet5", "small-cnn") else "cifar10").shape
    model, x = build_model(name).eval(), torch.rand(1, *shape)
    counted = []
    for frozen in (None, False, True):
        model.requires_grad_(not frozen)
        inputs = x.clone().requires_grad_(bool(frozen))
        with FlopCounterMode(display=False) as counter:
            loss = model(inputs).sum()
            if frozen is not None:
                loss.backward()
        counted.append(counter.get_total_flops())
    assert FLOPS[name] == pytest.approx(counted, rel=0.002)


def test_the_sum_of_a_sweep():
    table2 = EXPERIMENTS["table2"].with_attacks(["clean", "fgsm", "pgd"])
    recipe = table2.rows[0].recipe
    assert training_flops(recipe) == pytest.approx(200 * 60_000 * 2.264e6)
    pgd = table2.measures[2]
    assert measure_flops(pgd, recipe) == pytest.approx(10_000 * (40 * 1.666e6 + 0.833e6))
    ten = Measure("p", "PGD-10", "pgd", 0.1, (("steps", 10),), samples=100)
    assert measure_flops(ten, recipe) == pytest.approx(100 * (10 * 1.666e6 + 0.833e6))


def test_shared_epochs_count_once(tmp_path):
    table6 = EXPERIMENTS["table6"].with_attacks(["clean"])
    cells = plan_cells(table6, [0], tmp_path)[1:]
    whole, shared = (sweep_flops(cells, share) for share in (False, True))
    one = training_flops(cells[0].recipe) / 100
    assert whole - shared == pytest.approx(6 * 75 * one)


def test_time_is_what_finished_cells_took(tmp_path):
    cells = plan_cells(GRID, [0], tmp_path)
    assert Clock(Results()).seconds(cells, True) is None
    assert Clock(Results()).unknown(cells) == [cells[0].recipe]
    results = Results()
    entry = {"robust_accuracy": 1.0, "config": {}, "seconds": 36.0}
    evaluation = {
        "n": 360,
        "samples": "all",
        "threat": {"epsilon": 0.1, "norm": "Linf"},
        "attacks": {"clean": entry, "fgsm": entry},
    }
    result = {
        "environment": {"cpu": cpu_name(), "device": "cpu"},
        "training": {"seconds": 30.0, "loss": [1.0, 1.0, 1.0], "second_stage_epoch": None},
        "evaluations": [evaluation],
    }
    results.add(cells[0].recipe, result)
    clock = Clock(results)
    assert clock.unknown(cells) == []
    assert clock.seconds(cells[1:2], False) == pytest.approx(30 + 72)
    other = Results()
    other.add(cells[0].recipe, {**result, "environment": {"cpu": "another", "device": "cpu"}})
    assert Clock(other).seconds(cells[1:2], False) is None


def test_a_pace_is_measured():
    pace = measure_pace(GRID.rows[0].recipe, "cpu")
    assert 0 < pace.gradient < 1
    assert 0 < pace.train < 1
    assert cpu_name() == describe_environment(torch.device("cpu"))["cpu"]


def test_fluctuation_in_closed_form():
    assert fluctuation([3, 2, 1, 0]) == fluctuation([0, 1, 2]) == fluctuation([1.0]) == 0
    assert fluctuation([1, 0, 1, 0, 1]) == 1
    assert fluctuation([3, 1, 2, 0]) == pytest.approx(2 / 3)


def test_figure_3(tmp_path, capsys):
    experiment = EXPERIMENTS["figure3"].with_epochs(3)
    results = Results()
    for number, row in enumerate(experiment.rows[:9]):
        recipe = dataclasses.replace(row.recipe, seed=0)
        loss = [3.0, 1.0, 1.0 + 0.1 * number]
        training = {"seconds": 1.0, "loss": loss, "second_stage_epoch": 2}
        results.add(recipe, {"training": training, "evaluations": []})
    assert len(training_curves(experiment, results)) == 9
    assert results.done(experiment.rows[0].recipe, ())
    assert not results.done(experiment.rows[10].recipe, ())
    table = draw_figure3(experiment, results, tmp_path)
    assert [row[0] for row in table.rows] == ["0.1", "0.5", "1.5"]
    assert [row[2] for row in table.rows] == ["7", "2", "0"]
    assert "Reduced: 3 epochs" in table.notes[0]
    assert (tmp_path / "figure3.png").stat().st_size > 10_000
    assert "lambda_2" in capsys.readouterr().out
    for kind in ("markdown", "csv", "latex"):
        assert table.rows[0][1] in export(experiment, results, kind).replace("--", "–")
    curves = json.loads(export(experiment, results, "json"))["curves"]
    assert [len(curve["losses"]) for curve in curves] == [3] * 9
