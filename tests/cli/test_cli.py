"""The command line as a user meets it: quick help, clear errors, whole jobs."""

import json
import re
import subprocess
import sys
import time

import numpy as np
import pytest

from robustpolicy.cli import COMMANDS, main
from robustpolicy.version import __version__


def test_help_and_version_are_quick_and_import_no_torch():
    program = (
        "import sys; from robustpolicy.cli import main; main([{!r}]);"
        "assert not {{'torch', 'numpy', 'tyro'}} & set(sys.modules), 'imported too much'"
    )
    for flag in ("--help", "--version"):
        begun = time.perf_counter()
        command = [sys.executable, "-c", program.format(flag)]
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        # The promise is one second; importing torch alone would take longer than this.
        assert time.perf_counter() - begun < 10
    assert __version__ in done.stdout


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_each_command_imports_no_torch(command):
    program = (
        "import sys\nfrom robustpolicy.cli import main\ntry: main([{!r}, '--help'])\n"
        "except SystemExit as end: assert not end.code\n"
        "assert 'torch' not in sys.modules"
    )
    done = subprocess.run(
        [sys.executable, "-c", program.format(command)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert f"robustpolicy {command}" in done.stdout


def test_every_recipe_field_is_a_flag(capsys):
    with pytest.raises(SystemExit):
        main(["train", "--help"])
    text = capsys.readouterr().out
    for flag in [
        "--dataset",
        "--model",
        "--protocol",
        "--epochs",
        "--batch-size",
        "--seed",
        "--augmentation",
        "--normalize",
        "--validation",
        "--image-size",
        "--penalty",
        "--warmup-penalty",
        "--reward",
        "--threshold",
        "--warmup",
        "--actions",
        "--warmup-actions",
        "--learning-rate",
        "--drops",
        "--drop-factor",
        "--momentum",
        "--weight-decay",
        "--output",
        "--device",
        "--data-dir",
        "--threads",
    ]:
        assert re.search(rf"{flag}\b", text), flag


ERRORS = [
    ("", None),
    ("fly", "unknown command 'fly'; choose one of demo, train"),
    ("train", "no recipe given; choose one of digits-ce"),
    ("train digits", "unknown recipe 'digits'; choose one of digits-ce, digits-policy, mnist-ce"),
    ("train digits-ce --penalty 1", "Unrecognized options: --penalty"),
    ("train digits-ce --epochs many", "invalid literal for int"),
    ("train digits-ce --epochs 0", "epochs is 0; give at least 1"),
    ("train digits-ce --epochs 20 --drops 50", "would drop after epoch 50"),
    ("train digits-ce --protocol mine", "Expected one of ('standard', 'paper')"),
    ("train digits-ce --model alexnet", "unknown model 'alexnet'"),
    ("train digits-ce --model vgg13", "vgg13 cannot take images of digits"),
    ("train digits-ce --dataset imagenet", "unknown data set 'imagenet'"),
    ("train digits-ce --dataset ./nowhere", "no data set ./nowhere"),
    ("train digits-ce --image-size 32", "digits has a size of its own"),
    ("train digits-ce --model nowhere:make", "No module named 'nowhere'"),
    ("train digits-ce --data-dir nowhere", "nowhere is not a folder"),
    ("train digits-ce --threads 0", "--threads is 0"),
    ("train digits-ce --threads 100000", "--threads is 100000"),
    ("train --epochs 3 digits-ce", "the recipe comes first"),
    ("train digits-ce --learning-rate 1e300", "learning_rate is 1e+300"),
    ("train digits-ce --validation 0.99999", "nothing to train on"),
    ("train digits-ce --output " + 300 * "x", "File name too long"),
    ("evaluate " + 300 * "x", "File name too long"),
    ("evaluate {run} --json {run}", "is a folder"),
    ("train digits-ce --device cuda", "no cuda device"),
    ("train digits-policy --penalty -1", "penalty is -1.0; give a finite number >= 0"),
    ("train digits-policy --penalty 0 --reward 0", "both 0"),
    ("train digits-ce --output /proc/robustpolicy", "cannot make the folder"),
    ("train --from nowhere.json", "nowhere.json is not a readable recipe.json"),
    ("train --from", "--from needs a file"),
    ("train digits-ce --from recipe.json", "use one of them"),
    ("evaluate nowhere", "nowhere is not a run folder"),
    ("evaluate . ", "not a run folder: it has no recipe.json"),
    ("evaluate", "TARGET"),
    ("evaluate {run} --attacks cw", "choose some of clean, fgsm, pgd, apgd-ce"),
    ("evaluate {run} --attacks", "--attacks has 'nothing'"),
    ("evaluate {run} --epsilon 0", "epsilon is 0; give a radius > 0"),
    ("evaluate {run} --epsilon -0.1", "epsilon is -0.1"),
    ("evaluate {run} --steps 0", "steps is 0"),
    ("evaluate {run} --loss kl", "unknown attack loss 'kl'"),
    ("evaluate {run} --epsilon 8", "8/255, say, is 0.031373"),
    ("evaluate {run} --norm L2", "needs an --epsilon"),
    ("evaluate {run} --workers 0", "--workers is 0"),
    ("evaluate {run} --version fast", "'fast'"),
    ("evaluate {run} --attacks transfer", "needs --surrogate"),
    ("verify nowhere", "holds no evaluation"),
    ("evaluate {run} --samples 361", "give a number from 1 to 360"),
    ("evaluate {run} --indices 3", "give A:B"),
    ("evaluate {run} --samples 5 --indices 0:5", "both given"),
    ("evaluate {run} --json nowhere/x.json", "that folder does not exist"),
    ("evaluate {run} --dataset mnist", "trained on digits"),
    ("evaluate torch.nn:Identity --dataset digits", "logits have shape"),
    ("evaluate torch.nn:Linear --dataset digits", "failed: TypeError"),
    ("evaluate torch.nn:Identity", "--dataset"),
    ("evaluate {run} --image-size 20", "leave --image-size out"),
    ("evaluate {run} --dataset json:loads", "no epsilon for json:loads; give a radius"),
    ("evaluate {run} --dataset json:loads --epsilon 0.1", "json:loads failed: TypeError"),
    ("data", "list"),
    ("data burn", "'burn'"),
    ("data fetch", "needs a name"),
    ("data check imagenet", "unknown data set"),
    ("data fetch json:loads", "nothing to fetch"),
    ("data list mnist", "takes no name"),
]


@pytest.mark.parametrize(("line", "message"), ERRORS)
def test_bad_input_is_one_line_and_code_2(line, message, digits_run, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    arguments = line.format(run=digits_run.path).split()
    if message is None:
        assert main(arguments) == 0  # no command: the help
        return
    assert main(arguments) == 2
    captured = capsys.readouterr()
    errors = captured.err.strip()
    assert message in errors
    assert errors.startswith("robustpolicy: ")
    assert len(errors.splitlines()) == 1
    assert not list(tmp_path.iterdir()), "an error must leave nothing behind"


def test_train_evaluate_and_resume(cli, tmp_path):
    train = ("train", "digits-policy", "--epochs", "4", "--output", "run", "--device", "cpu")
    done = cli(*train)
    assert done.returncode == 0, done.stderr
    assert "epoch 4/4" in done.stderr
    assert "\x1b[" not in done.stdout + done.stderr  # no colours in a pipe
    recipe = json.loads((tmp_path / "run" / "recipe.json").read_text())
    assert recipe["optimizer"]["drops"] == [3]  # 30 of 40, scaled
    again = cli("train", "--from", "run/recipe.json", "--output", "run", "--device", "cpu")
    assert again.returncode == 0
    assert "epoch" not in again.stderr  # nothing left to do
    done = cli("evaluate", "run", "--attacks", "clean", "pgd", "--steps", "5", "--samples", "100",
               "--json", "out.json", "--seed", "7")  # fmt: skip
    assert done.returncode == 0, done.stderr
    result = json.loads((tmp_path / "out.json").read_text())
    assert set(result["attacks"]) == {"clean", "pgd"}
    assert all(0 <= a["robust_accuracy"] <= 1 for a in result["attacks"].values())
    assert (result["n"], result["seed"]) == (100, 7)
    assert "worst case" in done.stdout
    other = cli("train", "digits-policy", "--epochs", "5", "--output", "run")
    assert other.returncode == 2
    assert "different run" in other.stderr


def test_a_model_of_ones_own(cli, tmp_path):
    (tmp_path / "mine.py").write_text(
        "from torch import nn\n"
        "def model(): return nn.Sequential(nn.Flatten(), nn.Linear(784, 10))\n"
        "def broken(): raise ValueError('no weights')\n"
    )
    done = cli("evaluate", "mine:model", "--dataset", "digits", "--indices", "0:50", "--steps", "3")
    assert done.returncode == 0, done.stderr
    assert "50 of digits's test images" in done.stdout
    done = cli("evaluate", "mine:broken", "--dataset", "digits")
    assert done.returncode == 2
    assert "ValueError: no weights (mine.py, line 3)" in done.stderr


def test_data_commands(cli):
    done = cli("data", "list")
    assert done.returncode == 0
    assert "in the package" in done.stdout
    assert "comes with the package" in cli("data", "fetch", "digits").stdout


def test_data_of_ones_own_are_described_and_warned_of(cli, tmp_path):
    images = np.linspace(0, 1, 8 * 25).reshape(8, 5, 5)
    labels = np.arange(8) % 2
    np.savez(
        tmp_path / "x.npz",
        train_images=images, train_labels=labels, test_images=images[:3], test_labels=labels[:3],
        classes=["cat", "dog"],
    )  # fmt: skip
    done = cli("data", "check", "x.npz")
    assert done.stdout == "x.npz: 8 train and 3 test images, 1x5x5\n  cat: 4 + 2\n  dog: 4 + 1\n"
    lines = done.stderr.splitlines()
    assert len(lines) == 2  # of train and of test
    assert lines[0].startswith("warning: x.npz: train_images are floats between the 256 levels")


@pytest.mark.mnist
def test_data_check(cli, mnist):
    done = cli("data", "check", "mnist")
    assert "every SHA-256 as published" in done.stdout, done.stderr
    assert "every SHA-256 as published" in cli("data", "fetch", "mnist").stdout


def test_training_at_a_terminal_draws_a_bar(tmp_path):
    """In a real pseudo-terminal: a bar with epoch, stage, loss and accuracy."""
    import os
    import pty

    leader, follower = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "robustpolicy", "train", "digits-policy", "--epochs", "2",
         "--output", str(tmp_path / "run"), "--device", "cpu", "--threads", "1"],
        stdin=follower, stdout=follower, stderr=follower,
        env={**os.environ, "TERM": "xterm", "COLUMNS": "140"},
    )  # fmt: skip
    os.close(follower)
    shown = b""
    while True:
        try:
            part = os.read(leader, 4096)
        except OSError:
            break
        if not part:
            break
        shown += part
    assert process.wait() == 0
    text = shown.decode(errors="replace")
    for word in ("epoch 2/2", "stage 1", "loss", "accuracy"):
        assert word in text
