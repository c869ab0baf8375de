"""Sweeps: cells run once, resume, and tell their errors; tables and their data."""

import dataclasses
import json
import signal
import subprocess
import sys
import time

import pytest

from robustpolicy import UserError
from robustpolicy.experiments.paper import EXPERIMENTS, get_experiment
from robustpolicy.experiments.results import read_results, second_stage_epoch, summarise
from robustpolicy.experiments.sweep import plan_cells, progress_of, run_cell, run_cells
from robustpolicy.report.tables import experiment_table

TINY = get_experiment("digits").with_epochs(2)


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    output = tmp_path_factory.mktemp("sweep")
    cells = plan_cells(TINY, [0, 1], output)
    seen = []
    run_cells(cells, workers=2, device="cpu", watch=lambda: seen.append(progress_of(cells[0])))
    assert ("done", 2) in seen
    return output, cells


def test_every_cell_has_its_result(swept):
    _output, cells = swept
    assert [cell.name for cell in cells] == [
        "ce-seed0", "policy-seed0", "ce-seed1", "policy-seed1",
    ]  # fmt: skip
    for cell in cells:
        assert cell.done
        result = json.loads(cell.result.read_text())
        assert result["recipe"] == cell.recipe.to_json()
        assert set(result["evaluation"]["attacks"]) == {"clean", "fgsm", "pgd"}
        assert result["environment"]["threads"] == 1
        assert "machine" not in result["environment"]


def test_done_cells_are_skipped_and_a_changed_recipe_is_another_cell(swept):
    output, cells = swept
    before = [cell.result.stat().st_mtime_ns for cell in cells]
    run_cells(cells, workers=2, device="cpu")
    assert [cell.result.stat().st_mtime_ns for cell in cells] == before
    longer = plan_cells(get_experiment("digits").with_epochs(3), [0], output)
    assert not any(cell.done for cell in longer)


def test_classes_that_were_lost_are_counted(swept):
    output, _ = swept
    results = read_results(output / "results", TINY)
    results["ce"][1]["evaluation"]["clean_accuracy_by_class"] = [0.0, 0.5, 0.0]
    results["ce"][0]["evaluation"]["clean_accuracy_by_class"] = None
    table = experiment_table(dataclasses.replace(TINY, count_lost=True), results)
    place = table.columns.index("classes lost")
    assert table.rows[0][place] == "0, 2"
    assert all(len(row) == len(table.columns) for row in table.rows)


def test_fewer_samples_are_attacked_where_the_experiment_says_so(tmp_path):
    few = dataclasses.replace(TINY.with_epochs(1), samples=30, rows=TINY.with_epochs(1).rows[:1])
    (cell,) = plan_cells(few, [0], tmp_path)
    run_cell(cell, device="cpu")
    evaluation = json.loads(cell.result.read_text())["evaluation"]
    assert (evaluation["n"], evaluation["samples"]) == (30, "30 drawn at random")


def test_table(swept):
    output, _ = swept
    results = read_results(output / "results", TINY)
    table = experiment_table(TINY, results)
    assert [row[0] for row in table.rows] == ["cross-entropy", "two stages (.75, 1.5)"]
    assert all(row[-1] == "2" for row in table.rows)
    summary = summarise(results["ce"], "clean")
    assert table.rows[0][1] == str(summary)
    assert min(summary.values) <= summary.mean <= max(summary.values)
    assert "Reduced: 2 epochs" in table.notes[0]
    assert table.markdown().startswith("| training | clean | FGSM | PGD-40 | seeds |\n| --- |")
    # Results of another recipe do not enter a table.
    full = read_results(output / "results", get_experiment("digits"))
    assert not any(full.values())


def test_a_failing_cell_is_named(tmp_path):
    cells = plan_cells(TINY, [0], tmp_path)
    (tmp_path / "digits" / "ce-seed0").mkdir(parents=True)
    (tmp_path / "digits" / "ce-seed0" / "stranger").write_text("")
    with pytest.raises(UserError, match="ce-seed0: .*not empty"):
        run_cells(cells, workers=1, device="cpu")


def test_a_result_that_is_none(tmp_path):
    (tmp_path / "digits").mkdir()
    (tmp_path / "digits" / "ce-seed0.json").write_text("{")
    with pytest.raises(UserError, match="is not a result"):
        read_results(tmp_path, TINY)
    assert not plan_cells(TINY, [0], tmp_path, tmp_path)[0].done


def test_sigterm_stops_the_workers_and_the_same_command_goes_on(tmp_path, cli):
    arguments = ["reproduce", "digits", "--epochs", "12", "--output", str(tmp_path / "o"),
                 "--device", "cpu", "--workers", "2"]  # fmt: skip
    process = subprocess.Popen(
        [sys.executable, "-m", "robustpolicy", *arguments], stderr=subprocess.PIPE, text=True
    )
    history = tmp_path / "o" / "digits" / "ce-seed0" / "history.jsonl"
    deadline = time.time() + 60
    while not history.exists() and time.time() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 143, errors
    assert "the same command goes on" in errors.splitlines()[-1]
    epochs = len(history.read_text().splitlines())
    assert epochs < 12
    time.sleep(1)
    assert len(history.read_text().splitlines()) == epochs  # no orphan goes on training
    done = cli(*arguments)
    assert done.returncode == 0, done.stderr
    assert "two stages" in done.stdout


def test_the_papers_numbers_are_as_printed():
    rows = {row.key: row.paper for row in EXPERIMENTS["mnist-full"].rows}
    assert dataclasses.astuple(rows["ce"]) == (99.19, 71.45, 46.88)
    assert dataclasses.astuple(rows["policy"]) == (99.21, 86.40, 63.73)
    assert all(row.paper is None for row in EXPERIMENTS["eq4-alone"].rows)


def test_second_stage_epoch():
    assert second_stage_epoch([{"epoch": 1, "stage": 1}, {"epoch": 2, "stage": 2}]) == 2
    assert second_stage_epoch([{"epoch": 1}]) is None


@pytest.mark.slow
def test_demo_runs_from_an_empty_folder(cli, tmp_path):
    done = cli("demo", timeout=280)
    assert done.returncode == 0, done.stderr
    assert "two stages" in done.stdout
    assert (tmp_path / "runs/demo/demo.png").stat().st_size > 20_000
