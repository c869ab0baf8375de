"""``reproduce`` and ``results`` as a user meets them: plans, kills, two at once, bad input."""

import csv
import io
import json
import os
import signal
import subprocess
import sys
import time

import pytest

SWEEP = ["reproduce", "digits", "--epochs", "6", "--seeds", "2", "--device", "cpu", "--workers",
         "2"]  # fmt: skip


def start(folder, *arguments):
    return subprocess.Popen(
        [sys.executable, "-m", "robustpolicy", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


def wait_for(condition, seconds=120):
    deadline = time.time() + seconds
    while not condition() and time.time() < deadline:
        time.sleep(0.05)
    assert condition()


def results_in(folder):
    return sorted((folder / "runs" / "results" / "digits").glob("*.json"))


def check_whole(folder):
    """Four cells, each done once and from the first epoch to the last."""
    found = results_in(folder)
    assert len(found) == 4
    for path in found:
        result = json.loads(path.read_text())
        assert len(result["training"]["loss"]) == 6
        assert len(result["evaluations"]) == 1
    for run in (folder / "runs" / "cells").glob("digits-*"):
        epochs = [json.loads(line)["epoch"] for line in (run / "history.jsonl").open()]
        assert epochs == list(range(1, 7))
    assert not list((folder / "runs" / "cells").glob("*damaged*"))


def test_a_sweep_killed_in_the_middle_loses_nothing_and_does_nothing_twice(tmp_path, cli):
    process = start(tmp_path, *SWEEP)
    wait_for(lambda: results_in(tmp_path))
    process.send_signal(signal.SIGKILL)
    process.communicate()
    before = {path: path.stat().st_mtime_ns for path in results_in(tmp_path)}
    assert 1 <= len(before) < 4
    done = cli(*SWEEP)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"4 cells, {len(before)} done already, {4 - len(before)} to do")
    assert "reduced: 6 epochs in place of 40" in done.stdout
    assert {path: path.stat().st_mtime_ns for path in before} == before
    check_whole(tmp_path)


@pytest.mark.slow
def test_sigterm_stops_the_workers_and_the_same_command_goes_on(tmp_path, cli):
    process = start(tmp_path, *SWEEP)
    cells = tmp_path / "runs" / "cells"
    wait_for(lambda: list(cells.glob("*/history.jsonl")))
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 143, errors
    assert "the same command goes on" in errors.splitlines()[-1]
    epochs = [path.read_text() for path in cells.glob("*/history.jsonl")]
    time.sleep(1)  # no orphan goes on training
    assert [path.read_text() for path in cells.glob("*/history.jsonl")] == epochs
    done = cli(*SWEEP)
    assert done.returncode == 0, done.stderr
    check_whole(tmp_path)


@pytest.mark.slow
def test_two_sweeps_over_one_folder_share_the_work(tmp_path):
    both = [start(tmp_path, *SWEEP) for _ in range(2)]
    for process in both:
        shown, errors = process.communicate(timeout=280)
        assert process.returncode == 0, errors
        assert "two stages" in shown
        assert "failed" not in errors
    check_whole(tmp_path)


def test_a_dry_run_plans_without_torch_and_begins_nothing(tmp_path):
    program = (
        "import sys; from robustpolicy.cli import main;"
        "assert main(['reproduce', 'table2', '--penalties', '.1', '.5', '1.5', '--seeds', '2',"
        "'--epochs', '12', '--dry-run']) == 0; assert 'torch' not in sys.modules"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[:2] == ["18 cells, 0 done already, 18 to do", "reduced: 12 epochs in place of 200"]
    assert "TFLOP" in lines[2]
    assert lines[3] == "18 cells share 6 first stages"
    assert list(tmp_path.iterdir()) == []


def test_a_failed_cell_is_one_line_and_the_exit_code(tmp_path, cli):
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "cells").write_text("no folder")
    done = cli(*SWEEP[:4], "--workers", "1", "--device", "cpu")
    assert done.returncode == 1
    failed = [line for line in done.stderr.splitlines() if line.startswith("failed: ")]
    assert [line.split(":")[1].strip() for line in failed] == [
        "digits/ce-seed0", "digits/policy-seed0",
    ]  # fmt: skip
    assert all("cannot make the folder" in line for line in failed)
    assert "Traceback" not in done.stderr
    assert done.stderr.splitlines()[-1].endswith("the same command tries them again")


ERRORS = [
    ("reproduce", "experiment"),
    ("reproduce table9", "unknown experiment 'table9'; choose one of table1, table2"),
    ("reproduce figure1", "unknown experiment 'figure1'"),
    ("reproduce digits --seeds 0", "--seeds is 0; give at least 1"),
    ("reproduce digits --workers 0", "--workers is 0"),
    ("reproduce digits --epochs 0", "--epochs is 0"),
    ("reproduce digits --samples 1000", "--samples is 1000; give a number from 1 to 360"),
    ("reproduce digits --attacks cw", "--attacks has 'cw'; choose some of clean"),
    ("reproduce digits --penalties .1", "has no grid of penalties"),
    ("reproduce table2 --penalties .3", "--penalties has 0.3; choose some of 0.1, 0.25"),
    ("reproduce table2 --warmup-penalties .1", "needs --penalties"),
    ("reproduce all --penalties .1", "for one table"),
    ("reproduce digits --shard 3/2", "--shard is '3/2'"),
    ("reproduce digits --shard two", "--shard is 'two'"),
    ("reproduce digits --engine slurm", "Expected one of ('local', 'ray')"),
    ("results fly", "invalid choice"),
    ("results show", "show needs a name; choose one of table1"),
    ("results show table9", "unknown experiment 'table9'"),
    ("results list", "results and runs/results is no folder"),
    ("results claims mnist --results .", "claims no trend in mnist; choose one of table1, table2"),
    ("results show mnist --results .", "there are no results of mnist"),
    ("results export mnist --results . --output a/b", "a folder that exists"),
    ("results export mnist --results . --format pdf", "Expected one of ('markdown', 'csv'"),
]


@pytest.mark.parametrize(("line", "message"), ERRORS, ids=[line for line, _ in ERRORS])
def test_bad_input_is_one_line_and_exit_code_2(line, message, capsys, tmp_path, monkeypatch):
    from robustpolicy.cli import main

    monkeypatch.chdir(tmp_path)
    assert main(line.split()) == 2
    shown = capsys.readouterr()
    assert message in shown.err
    assert len(shown.err.strip().splitlines()) == 1
    assert "Traceback" not in shown.err


def test_results_of_the_repository(capsys, monkeypatch):
    from pathlib import Path

    from robustpolicy.cli import main

    monkeypatch.chdir(Path(__file__).parent.parent.parent)
    assert main(["results", "list"]) == 0
    assert "40 epochs for both, where the paper has 100 and 200" in capsys.readouterr().out
    assert main(["results", "show", "mnist"]) == 0
    shown = capsys.readouterr().out
    assert "two stages (.75, 1.5) less cross-entropy" in shown
    assert main(["results", "claims", "table2"]) == 0
    assert "has no tendency along lambda_1" in capsys.readouterr().out
    assert main(["results", "export", "mnist", "--format", "csv"]) == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    pgd = next(r for r in rows if (r["row"], r["measure"]) == ("ce", "pgd"))
    assert (pgd["paper"], round(float(pgd["ours"]), 2)) == ("46.88", 55.25)


@pytest.mark.slow
def test_demo_runs_from_an_empty_folder(cli, tmp_path):
    done = cli("demo", timeout=280)
    assert done.returncode == 0, done.stderr
    assert "two stages" in done.stdout
    assert (tmp_path / "runs/demo/demo.png").stat().st_size > 20_000
