"""Both engines do the same: order, needs, retries, deaths, interruption, the same weights."""

import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from robustpolicy import UserError
from robustpolicy.experiments.engines import Job, LocalEngine
from robustpolicy.training.trainer import train
from tests.experiments.engines import jobs
from tests.experiments.engines.nodes import (
    ENVIRONMENT,
    RAY,
    ROOT,
    alive,
    kill,
    listens_on,
    session,
    wait_until,
)


@pytest.fixture(scope="module")
def swept(engine, tmp_path_factory):
    """One sweep with everything in it."""
    folder = tmp_path_factory.mktemp("sweep")
    log = folder / "log"
    cells = [
        Job("after", jobs.leave, (log, "after"), needs=("prefix", "9")),
        Job("beside", jobs.leave, (log, "beside"), needs=("prefix",)),
        *(Job(str(n), jobs.square, (n,)) for n in range(10)),
        Job("prefix", jobs.leave, (log, "prefix")),
        Job("dies", jobs.die_once, (folder / "dies",)),
        Job("fails", jobs.fail, (folder / "fails",), retries=2),
        Job("lost", jobs.leave, (log, "lost"), needs=("fails",)),
        Job("lost too", jobs.leave, (log, "lost"), needs=("lost", "0")),
        Job("fails at once", jobs.fail, (folder / "once",), retries=0),
        Job("bad input", jobs.complain),
        Job("surroundings", jobs.surroundings),
    ]
    ticks, seen = [], []
    outcomes = engine.run(cells, tick=lambda: ticks.append(1), on_outcome=seen.append)
    assert ticks
    assert sorted(seen, key=lambda one: one.name) == sorted(outcomes, key=lambda one: one.name)
    assert [one.name for one in outcomes] == [cell.name for cell in cells]
    return folder, {one.name: one for one in outcomes}


def test_values(swept):
    _, outcomes = swept
    for n in range(10):
        assert outcomes[str(n)].value == n**2
        assert (outcomes[str(n)].attempts, outcomes[str(n)].error) == (1, None)


def test_a_prefix_runs_once_and_first(swept):
    folder, _ = swept
    first, *others = (folder / "log").read_text().split()
    assert first == "prefix"
    assert sorted(others) == ["after", "beside"]


def test_a_killed_process_is_replaced_and_its_job_tried_again(swept):
    _, outcomes = swept
    assert (outcomes["dies"].value, outcomes["dies"].attempts) == ("done", 2)


def test_a_failing_job_is_tried_again_then_reported(swept):
    folder, outcomes = swept
    failed = outcomes["fails"]
    assert failed.error == "ValueError: it cannot be done"
    assert failed.traceback.rstrip().endswith("and this is why")
    assert (failed.value, failed.attempts) == (None, 3)
    assert (folder / "fails").read_text().count("failed") == 3
    assert outcomes["fails at once"].attempts == 1
    assert outcomes["lost"].error == "needs fails, which failed"
    assert outcomes["lost too"].error == "needs lost, which failed"
    assert outcomes["lost"].attempts == 0
    assert outcomes["bad input"].error == "2 is too much; give 1"
    assert outcomes["bad input"].traceback == ""


def test_jobs_have_one_thread_and_the_drivers_folder(swept):
    _, outcomes = swept
    assert outcomes["surroundings"].value == (1, os.getcwd())


def test_a_process_killed_from_outside(engine, tmp_path):
    killed = []

    def tick():
        first = tmp_path / "0"
        if not killed and first.exists() and first.read_text().endswith("\n"):
            killed.append(int(first.read_text()))
            os.kill(killed[0], signal.SIGKILL)
            (tmp_path / "go on").touch()

    cells = [Job(str(n), jobs.hold, (tmp_path / str(n), tmp_path / "go on")) for n in range(4)]
    outcomes = engine.run(cells, tick=tick)
    assert [one.error for one in outcomes] == [None] * 4
    assert [one.attempts for one in outcomes] == [2, 1, 1, 1]
    assert outcomes[0].value != killed[0]


def test_a_process_that_is_always_killed(tmp_path):
    (outcome,) = LocalEngine(1).run([Job("dies", os.kill, (0, signal.SIGKILL))])
    assert outcome.error == "its process was killed by signal 9"
    assert (outcome.attempts, outcome.value) == (2, None)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Weights of three trainings in this process."""
    folder = tmp_path_factory.mktemp("trained")
    runs = [train(jobs.recipe(n, 2), folder / str(n), device="cpu") for n in range(4)]
    return [load_file(run.weights) for run in runs]


def test_trainings_are_the_same_to_the_bit(engine, trained, tmp_path):
    cells = [Job(str(n), jobs.train_digits, (tmp_path, n, 2)) for n in range(4)]
    assert all(outcome.error is None for outcome in engine.run(cells))
    for n, weights in enumerate(trained):
        found = load_file(tmp_path / f"seed{n}" / "weights.safetensors")
        assert all(torch.equal(found[name], weights[name]) for name in weights)


BAD = {
    "same name": ([Job("a", jobs.square), Job("a", jobs.square)], "2 jobs are named 'a'"),
    "unknown need": ([Job("a", jobs.square, needs=("b",))], "a needs 'b', which is no job"),
    "itself": ([Job("a", jobs.square, needs=("a",))], "a needs a; such jobs can never begin"),
    "circle": (
        [Job("a", jobs.square, needs=("b",)), Job("b", jobs.square, needs=("a",))],
        "needs .* needs .*can never begin",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input(engine, case):
    cells, message = BAD[case]
    with pytest.raises(UserError, match=message):
        engine.run(cells)


def test_no_jobs(engine):
    assert engine.run([]) == []


def test_no_workers():
    with pytest.raises(UserError, match="0 workers given; give at least 1"):
        LocalEngine(0)


@pytest.fixture
def short():
    """A folder for Ray: paths of sockets are limited."""
    with tempfile.TemporaryDirectory(prefix="rp-", dir="/tmp") as folder:
        yield Path(folder)


def begin(name, folder, epochs, short):
    own = {key: value for key, value in ENVIRONMENT.items() if key not in RAY}
    return subprocess.Popen(
        [sys.executable, "-m", "tests.experiments.engines.driver", name, folder, str(epochs)],
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env={**own, "HOME": str(folder), "TMPDIR": str(short)},
        start_new_session=True,
    )


@pytest.mark.parametrize(
    ("name", "signum"),
    [
        ("local", signal.SIGINT),
        ("local", signal.SIGKILL),
        pytest.param("ray", signal.SIGINT, marks=pytest.mark.xdist_group("ray")),
        pytest.param(
            "ray", signal.SIGKILL, marks=[pytest.mark.xdist_group("ray"), pytest.mark.slow]
        ),
    ],
)
def test_a_driver_that_ends_leaves_no_process(name, signum, tmp_path, short):
    driver = begin(name, tmp_path, 200, short)
    others = []
    try:
        pids = tmp_path / "pids"
        wait_until(lambda: pids.exists() and pids.read_text().count("\n") == 2, 90)
        history = tmp_path / "seed0" / "history.jsonl"
        wait_until(history.exists, 60)
        at_work = list(map(int, pids.read_text().split()))
        others = [*at_work, *session(driver.pid)]
        # 127.0.0.1, also as IPv6 writes it
        assert listens_on(others) <= {"0100007F", "0000000000000000FFFF00000100007F"}
        if signum == signal.SIGINT:
            os.killpg(driver.pid, signum)  # as Ctrl-C does
        else:
            driver.kill()
        _, errors = driver.communicate(timeout=60)
        if signum == signal.SIGINT:
            assert driver.returncode == 130, errors
            assert errors.endswith("stopped with 3 of 3 jobs left; the same command goes on\n")
            assert not any(map(alive, at_work))
            assert not list(short.glob("rp-*"))
            wait_until(lambda: not any(map(alive, others)), 10)
        else:  # Ray's own agents look for their node once a minute
            wait_until(lambda: not any(map(alive, at_work)), 30)
        assert (tmp_path / "seed0" / "checkpoint.pt").exists()
        assert len(history.read_text().splitlines()) < 200
        assert not (tmp_path / ".ray").exists()  # nothing of Ray's stays in the user's home
    finally:
        for pid in {*others, *session(driver.pid)}:
            kill(pid)
