"""Audits that resume, and the command."""

import dataclasses
import json
import signal
import subprocess
import sys
import time

import pytest
import torch

from robustpolicy import Threat, UserError, audit
from tests.evaluation.audit.defences import (
    RANDOM,
    Around,
)

THREAT = Threat(0.1)


class TestState:
    @pytest.mark.slow
    def test_what_was_cut_off_goes_on_to_the_same(self, digits, digits_run, tmp_path):
        x, y = digits.test_images[:16].float() / 255, digits.test_labels[:16]
        model = digits_run.load_model()

        def run(folder):
            return audit(model, x, y, THREAT, budget="quick", state=folder, batch_size=8)

        whole = run(tmp_path / "s")
        files = sorted((tmp_path / "s").glob("*.safetensors"), key=lambda f: f.stat().st_mtime)
        assert len(files) > 10
        for file in files[5:]:
            file.unlink()
        again = run(tmp_path / "s")
        assert torch.equal(again.robust, whole.robust)
        assert again.verdict == whole.verdict
        for name, attempt in whole.attempts.items():
            assert torch.equal(attempt.fooled, again.attempts[name].fooled), name
        with pytest.raises(UserError, match="audit was quick"):
            audit(model, x, y, THREAT, budget="standard", state=tmp_path / "s", batch_size=8)
        other = Around(model, None, lambda q: 5 * q)  # the same weights, other answers
        mine = Around(model)
        audit(mine, x[:6], y[:6], THREAT, budget="quick", state=tmp_path / "t")
        with pytest.raises(UserError, match="answers was"):
            audit(other, x[:6], y[:6], THREAT, budget="quick", state=tmp_path / "t")
        with pytest.raises(UserError, match="threat was"):
            audit(model, x, y, dataclasses.replace(THREAT, epsilon=0.2), budget="quick",
                  state=tmp_path / "s", batch_size=8)  # fmt: skip

    @pytest.mark.slow
    def test_the_same_twice(self, digits, digits_run):
        x, y = digits.test_images[:12].float() / 255, digits.test_labels[:12]
        model = Around(digits_run.load_model(), *RANDOM["noise"])
        state = torch.get_rng_state()
        one, two = (audit(model, x, y, THREAT, budget="quick").to_json() for _ in range(2))
        assert one["robust"] == two["robust"]
        assert one["claim"] == two["claim"]
        assert torch.equal(torch.get_rng_state(), state)


MODULE = """
import torch
class Mine(torch.nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.layers = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(784, 10))
    def forward(self, x):
        return self.layers(x)
"""


class TestCommand:
    def test_a_run(self, digits_run, cli, tmp_path):
        line = ["audit", digits_run.path, "--budget", "quick", "--samples", "10", "--device", "cpu",
                "--json", "a.json", "--html", "a.html", "--state", "state"]  # fmt: skip
        done = cli(*line)
        assert done.returncode == 0, done.stderr
        result = json.loads((tmp_path / "a.json").read_text())
        assert result["verdict"] in done.stdout
        assert f"{result['verdict']} at quick budget" in result["summary"]
        assert len(result["checks"]) == done.stderr.count("check ")
        page = (tmp_path / "a.html").read_text()
        assert result["verdict"] in page
        assert "://" not in page.replace("http://www.w3.org", "")
        assert cli("verify", "state").returncode == 0
        again = cli(*line)
        assert json.loads((tmp_path / "a.json").read_text())["robust"] == result["robust"]
        assert again.returncode == 0

    @pytest.mark.slow
    def test_a_model_of_ones_own(self, cli, tmp_path):
        (tmp_path / "mine.py").write_text(MODULE)
        done = cli("audit", "mine:Mine", "--dataset", "digits", "--budget", "quick", "--samples",
                   "20", "--claim", "0.9", "--surrogate", "nowhere")  # fmt: skip
        assert done.returncode == 2
        assert "nowhere" in done.stderr
        done = cli("audit", "mine:Mine", "--dataset", "digits", "--budget", "quick", "--samples",
                   "20", "--claim", "0.9", "--train-loss", "gce")  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert "MASKED at quick budget: claimed 90.0 % (given)" in done.stdout

    @pytest.mark.slow
    def test_a_surrogate_and_a_state(self, digits_run, cli):
        line = ["audit", digits_run.path, "--budget", "quick", "--samples", "10", "--device", "cpu",
                "--surrogate", digits_run.path, "--state", "state"]  # fmt: skip
        done = cli(*line)
        assert done.returncode == 0, done.stderr
        assert "given: " in done.stdout

    @pytest.mark.slow
    def test_kill_9_and_on(self, digits_run, cli, tmp_path):
        line = ["audit", digits_run.path, "--budget", "quick", "--samples", "100", "--device",
                "cpu", "--batch-size", "25"]  # fmt: skip
        line = [str(word) for word in line]
        assert cli(*line, "--json", "a.json").returncode == 0
        process = subprocess.Popen(
            [sys.executable, "-m", "robustpolicy", *line, "--state", str(tmp_path / "state")],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        deadline = time.time() + 60
        while len(list((tmp_path / "state").glob("*"))) < 8 and time.time() < deadline:
            time.sleep(0.01)
        assert process.poll() is None
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert cli(*line, "--json", "b.json", "--state", "state").returncode == 0
        a, b = (json.loads((tmp_path / f"{name}.json").read_text()) for name in "ab")
        assert a["robust"] == b["robust"]
        assert a["verdict"] == b["verdict"]

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ("--claim 49", "not percent"),
            ("--epsilon 8", "8/255"),
            ("--norm L2", "needs an --epsilon"),
            ("--train-loss mse", "choose one of cross-entropy, two-stage"),
            ("--html nowhere/a.html", "a folder that exists"),
            ("--budget huge", "budget"),
        ],
    )
    def test_bad_input(self, digits_run, cli, options, message):
        done = cli("audit", digits_run.path, *options.split())
        assert done.returncode == 2
        assert message in done.stderr
        assert "Traceback" not in done.stderr
        assert done.stdout == ""
