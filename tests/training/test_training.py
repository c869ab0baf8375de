"""The loop on small real data: it learns, switches, resumes to the bit, and loses nothing."""

import dataclasses
import json
import shutil
import signal
import subprocess
import sys
import time
import warnings

import pytest
import torch

from robustpolicy import UserError
from robustpolicy.training import Monitor, Run, get_recipe, train
from robustpolicy.training.recipe import Recipe, Sgd, TwoStage
from robustpolicy.training.state import State
from tests.training.stopping import Stop, StopAt

POLICY = dataclasses.replace(
    get_recipe("digits-policy"), epochs=6, optimizer=Sgd(momentum=0.9, learning_rate=0.02)
)
#: Momentum, dropout and sampled actions: every source of randomness and every kind of state.
RANDOM = Recipe(
    "digits",
    "small-cnn",
    TwoStage(warmup_actions="sampled", threshold=0.5),
    Sgd(0.02, drops=(2,), momentum=0.9, weight_decay=1e-4),
    epochs=3,
    batch_size=64,
    augmentation="crop-flip",
)


def weights(run):
    return (run.path / "weights.safetensors").read_bytes()


def records(run):
    return [{k: v for k, v in r.items() if k != "seconds"} for r in run.history()]


def test_two_stages_learn_the_digits(tmp_path):
    recipe = dataclasses.replace(
        get_recipe("digits-policy"), epochs=20, optimizer=Sgd(), loss=TwoStage(threshold=0.6)
    )
    run = train(recipe, tmp_path, device="cpu")
    history = run.history()
    stages = [record["stage"] for record in history]
    assert stages == sorted(stages)
    assert (stages[0], stages[-1]) == (1, 2)
    # Stage 2 begins in the epoch after the first accuracy above the threshold.
    first = next(r["epoch"] for r in history if r["watched_accuracy"] > 0.6)
    assert stages.index(2) == first
    assert history[-1]["watched_accuracy"] > 0.9
    assert run.done
    assert run.environment()["device"] == "cpu"
    # Doing it again does nothing; a fresh folder gives the same bytes.
    before = weights(run)
    train(recipe, tmp_path, device="cpu")
    assert weights(run) == before


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    return train(RANDOM, tmp_path_factory.mktemp("undisturbed"), device="cpu")


def test_the_same_recipe_gives_the_same_bytes(undisturbed, tmp_path):
    assert weights(train(RANDOM, tmp_path, device="cpu")) == weights(undisturbed)


@pytest.mark.parametrize("step", [1, 20, 21, 22, 50])
def test_resume_is_bit_identical(undisturbed, tmp_path, step):
    with pytest.raises(Stop):
        train(RANDOM, tmp_path, device="cpu", monitor=StopAt(step))
    run = train(RANDOM, tmp_path, device="cpu")
    assert weights(run) == weights(undisturbed)
    assert records(run) == records(undisturbed)


def test_training_leaves_the_global_generator_alone(tmp_path):
    torch.manual_seed(4)
    before = torch.get_rng_state()
    train(dataclasses.replace(RANDOM, epochs=1, optimizer=Sgd()), tmp_path, device="cpu")
    assert torch.equal(torch.get_rng_state(), before)


PROGRAM = """
import sys, json, torch
torch.set_num_threads(1)
from robustpolicy.training import Monitor, load_recipe, train
class Tell(Monitor):
    steps = 0
    def step(self):
        Tell.steps += 1
        print(Tell.steps, flush=True)
train(load_recipe(sys.argv[1]), sys.argv[2], device="cpu", monitor=Tell())
"""


@pytest.mark.parametrize(
    "kill_at",
    [23, pytest.param(3, marks=pytest.mark.slow), pytest.param(40, marks=pytest.mark.slow)],
)
def test_sigkill_at_any_moment(undisturbed, tmp_path, kill_at):
    recipe, output = tmp_path / "r.json", tmp_path / "run"
    recipe.write_text(json.dumps(RANDOM.to_json()))
    command = [sys.executable, "-c", PROGRAM, str(recipe), str(output)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    for line in process.stdout:
        if int(line) >= kill_at:
            break
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    assert not (output / "DONE").exists()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    assert weights(Run.open(output)) == weights(undisturbed)
    assert records(Run.open(output)) == records(undisturbed)


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_and_says_how_to_go_on(undisturbed, tmp_path, signum, cli):
    recipe, output = tmp_path / "r.json", tmp_path / "run"
    recipe.write_text(json.dumps(RANDOM.to_json()))
    arguments = ["train", "--from", recipe, "--output", output, "--device", "cpu", "--threads", "1"]
    process = subprocess.Popen(
        [sys.executable, "-m", "robustpolicy", *map(str, arguments)],
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.time() + 60
    while not (output / "history.jsonl").exists() and time.time() < deadline:
        time.sleep(0.02)
    process.send_signal(signum)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 128 + signum
    assert "the same command goes on from there" in errors.splitlines()[-1]
    assert "Traceback" not in errors
    result = cli(*arguments)
    assert result.returncode == 0, result.stderr
    assert weights(Run.open(output)) == weights(undisturbed)


def test_a_changed_environment_is_warned_of(tmp_path):
    class Listen(Monitor):
        said = ()

        def warn(self, message):
            self.said = (*self.said, message)

    short = dataclasses.replace(RANDOM, epochs=2, optimizer=Sgd())
    with pytest.raises(Stop):
        train(short, tmp_path, device="cpu", monitor=StopAt(30))
    file = tmp_path / "environment.json"
    file.write_text(file.read_text().replace('"threads": 1', '"threads": 8'))
    listener = Listen()
    train(short, tmp_path, device="cpu", monitor=listener)
    assert "threads 8 -> 1" in listener.said[0]


def test_a_different_run_is_refused(tmp_path, digits_run):
    other = dataclasses.replace(digits_run.recipe, seed=9)
    before = weights(digits_run)
    with pytest.raises(UserError, match="different run.*seed 3 there, 9 given"):
        train(other, digits_run.path, device="cpu")
    assert weights(digits_run) == before
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(UserError, match="not empty.*notes.txt"):
        train(other, tmp_path, device="cpu")


def test_two_trainings_in_one_folder_are_refused(tmp_path):
    with Run.claim(tmp_path, POLICY), pytest.raises(UserError, match="another process"):
        train(POLICY, tmp_path, device="cpu")


def test_a_kill_between_checkpoint_and_history_loses_no_epoch(undisturbed, tmp_path, monkeypatch):
    class Killed(BaseException):
        pass

    def killed(self, history):
        if len(history) == RANDOM.epochs:
            raise Killed
        return write(self, history)

    write = Run.write_history
    monkeypatch.setattr(Run, "write_history", killed)
    with pytest.raises(Killed):
        train(RANDOM, tmp_path, device="cpu")
    monkeypatch.undo()
    assert records(train(RANDOM, tmp_path, device="cpu")) == records(undisturbed)


@pytest.mark.parametrize("lost", ["weights.safetensors", "history.jsonl", "environment.json"])
def test_what_a_finished_run_lost_is_made_again(undisturbed, tmp_path, lost):
    shutil.copytree(undisturbed.path, tmp_path / "run")
    (tmp_path / "run" / lost).unlink()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        run = train(RANDOM, tmp_path / "run", device="cpu")
    assert weights(run) == weights(undisturbed)
    assert records(run) == records(undisturbed)
    assert run.environment()["device"] == "cpu"


@pytest.mark.parametrize("content", [b"", b"hello world", b"PK"])
def test_any_damaged_checkpoint_is_named(tmp_path, content):
    with pytest.raises(Stop):
        train(POLICY, tmp_path, device="cpu", monitor=StopAt(200))
    (tmp_path / "checkpoint.pt").write_bytes(content)
    with pytest.raises(UserError, match="checkpoint.pt cannot be read"):
        train(POLICY, tmp_path, device="cpu")
    torch.save({"other": 1}, tmp_path / "checkpoint.pt")
    with pytest.raises(UserError, match="does not fit this run"):
        train(POLICY, tmp_path, device="cpu")


def test_a_run_from_another_kind_of_device_goes_on(tmp_path):
    with pytest.raises(Stop):
        train(RANDOM, tmp_path, device="cpu", monitor=StopAt(30))
    path = tmp_path / "checkpoint.pt"
    state = torch.load(path, weights_only=True)
    state["generator_device"] = "cuda"
    state["generator"] = torch.zeros(16, dtype=torch.uint8)  # as long as CUDA's
    torch.save(state, path)
    assert len(train(RANDOM, tmp_path, device="cpu").history()) == RANDOM.epochs


def test_divergence_keeps_the_last_checkpoint(tmp_path):
    wild = Recipe("digits", "lenet5", optimizer=Sgd(1e6), epochs=4, batch_size=16)
    with pytest.raises(UserError, match="diverged: the loss of epoch 1 is nan"):
        train(wild, tmp_path, device="cpu")
    assert not (tmp_path / "DONE").exists()


def test_divergence_in_the_very_last_step_is_seen(tmp_path):
    once = Recipe("digits", "lenet5", optimizer=Sgd(9e29), epochs=1, batch_size=2000)
    with pytest.raises(UserError, match="outputs are not finite"):
        train(once, tmp_path, device="cpu")
    assert not (tmp_path / "checkpoint.pt").exists()


FULL_DISK = """
import resource, signal, sys
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))  # a checkpoint needs more
from robustpolicy.cli import main
sys.exit(main(sys.argv[1:]))
"""


def test_a_full_disk_keeps_the_old_checkpoint(tmp_path):
    with pytest.raises(Stop):
        train(POLICY, tmp_path / "run", device="cpu", monitor=StopAt(200))
    before = (tmp_path / "run" / "checkpoint.pt").read_bytes()
    (tmp_path / "r.json").write_text(json.dumps(POLICY.to_json()))
    result = subprocess.run(
        [sys.executable, "-c", FULL_DISK, "train", "--from", tmp_path / "r.json",
         "--output", tmp_path / "run", "--device", "cpu"],
        capture_output=True,
        text=True,
    )  # fmt: skip
    assert result.returncode == 2
    assert "could not write" in result.stderr
    assert "what was there before is kept" in result.stderr
    assert "Traceback" not in result.stderr
    assert (tmp_path / "run" / "checkpoint.pt").read_bytes() == before
    assert not list((tmp_path / "run").glob(".*.tmp"))
    run = train(POLICY, tmp_path / "run", device="cpu")
    assert len(run.history()) == 6


def test_a_damaged_checkpoint_is_named(tmp_path):
    with pytest.raises(Stop):
        train(POLICY, tmp_path, device="cpu", monitor=StopAt(200))
    path = tmp_path / "checkpoint.pt"
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(UserError, match=r"checkpoint.pt cannot be read.*delete it"):
        train(POLICY, tmp_path, device="cpu")


def test_unfinished_and_foreign_folders(tmp_path):
    with pytest.raises(UserError, match="no recipe.json"):
        Run.open(tmp_path)
    with pytest.raises(Stop):
        train(POLICY, tmp_path / "run", device="cpu", monitor=StopAt(200))
    with pytest.raises(UserError, match=r"not finished \(2 of 6 epochs\)"):
        Run.open(tmp_path / "run").load_model()


def test_checkpoints_load_without_running_code(tmp_path):
    with pytest.raises(Stop):
        train(RANDOM, tmp_path, device="cpu", monitor=StopAt(30))
    state = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    assert set(state) == set(State(RANDOM, torch.device("cpu")).state_dict())


@pytest.mark.mnist
def test_one_epoch_of_mnist(mnist, tmp_path):
    recipe = dataclasses.replace(get_recipe("mnist-ce").with_epochs(1), seed=0)
    (record,) = train(recipe, tmp_path, device="cpu").history()
    assert record["watched_accuracy"] > 0.93


@pytest.mark.cifar10
@pytest.mark.xdist_group("cifar10")
def test_a_step_of_the_cifar_recipe(cifar10, tmp_path):
    with pytest.raises(Stop):
        train(get_recipe("cifar10-policy"), tmp_path, device="cpu", monitor=StopAt(1))
