"""The audit against models whose robustness is known."""

import dataclasses
import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from robustpolicy import PGD, Threat, UserError, audit
from robustpolicy.attacks import Transfer
from robustpolicy.data import to_float
from robustpolicy.evaluation.audit import BUDGETS
from robustpolicy.evaluation.audit.case import Case
from robustpolicy.evaluation.audit.checks import CHECKS
from robustpolicy.evaluation.audit.checks.adaptive import needed
from robustpolicy.evaluation.audit.outcome import Attempt, Outcome
from robustpolicy.evaluation.audit.significance import gained
from robustpolicy.evaluation.audit.stand_in import StandIn
from robustpolicy.evaluation.audit.thresholds import MARGIN
from robustpolicy.evaluation.audit.verdict import judge_claim
from robustpolicy.models import LeNet5
from tests.evaluation.defences import (
    MASKS,
    RANDOM,
    Around,
    Either,
    OneHotDecoy,
    SecondBranch,
    Watchful,
)

ZOO = Path(__file__).parent / "zoo"
THREAT = Threat(0.1)
FINE = {"a": (True, "fine")}


def zoo(name):
    model = LeNet5()
    model.load_state_dict(load_file(ZOO / f"mnist-{name}.safetensors"))
    return model.eval()


@pytest.fixture(scope="module")
def images(mnist):
    chosen = torch.randperm(10_000, generator=torch.Generator().manual_seed(1))[:500]
    return to_float(mnist.test_images[chosen]), mnist.test_labels[chosen]


@pytest.fixture(scope="module")
def train_data(mnist):
    return mnist.train_images, mnist.train_labels


class TestVerdict:
    @pytest.mark.parametrize(
        ("upper", "adequate", "word"),
        [
            (0.44, FINE, "MASKED"),
            (0.44, {"a": (False, "poor")}, "MASKED"),
            (0.46, FINE, "REAL"),
            (0.46, {"a": (False, "poor")}, "INCONCLUSIVE"),
        ],
    )
    def test_the_rule(self, upper, adequate, word):
        verdict = judge_claim(0.5, upper - 0.03, upper, adequate)
        assert verdict.word == word
        assert ("poor" in verdict.reasons) == ("poor" in str(adequate))

    def test_the_margin_is_the_issues(self):
        assert MARGIN == 0.05


@pytest.mark.mnist
class TestStandIn:
    """White-box attacks get through each defence as if it were not there."""

    @pytest.mark.parametrize("name", MASKS)
    def test_it_restores_the_attack(self, name, images):
        plain = zoo("ce")
        x, y = images[0][:100], images[1][:100]
        attack = PGD(20, 0.02, loss="margin")
        honest = self.robust(plain, attack, x, y)
        model = Around(plain, *MASKS[name])
        stand_in = StandIn(model, x[:32], y[:32], distrust=name == "negated gradients")
        assert stand_in.changed
        assert len(model.model.conv1._forward_hooks) == 0 if hasattr(plain, "conv1") else True
        assert self.robust(model, Transfer((stand_in,), attack), x, y) <= honest + 0.06
        torch.testing.assert_close(stand_in(x).argmax(1), model(x).argmax(1))

    def robust(self, model, attack, x, y):
        return float((model(attack(model, x, y, THREAT)).argmax(1) == y).double().mean())


@pytest.mark.mnist
@pytest.mark.timeout(900)
class TestKnownAnswers:
    def audit(self, model, images, train_data, n=80, **options):
        x, y = images[0][:n], images[1][:n]
        options = {"budget": "quick", "train_data": train_data, **options}
        found = audit(model, x, y, options.pop("threat", THREAT), **options)
        plain = found.to_json()
        json.dumps(plain, allow_nan=False)
        assert {"verdict", "budget", "robust_accuracy", "interval", "claim", "checks"} <= set(plain)
        assert found.robust.sum() == round(found.robust_accuracy * n)
        return found

    @pytest.mark.parametrize(
        "name",
        [
            "logits x 1000",
            pytest.param("zero gradients", marks=pytest.mark.slow),
            pytest.param("8 levels", marks=pytest.mark.slow),
            pytest.param("one-hot", marks=pytest.mark.slow),
            pytest.param("saturating", marks=pytest.mark.slow),
            pytest.param("negated gradients", marks=pytest.mark.slow),
            pytest.param("no_grad", marks=pytest.mark.slow),
        ],
    )
    def test_masked(self, name, images, train_data):
        found = self.audit(Around(zoo("ce"), *MASKS[name]), images, train_data)
        assert found.verdict == "MASKED", found
        assert found.claim > 0.85
        assert found.robust_accuracy < 0.75

    @pytest.mark.slow
    @pytest.mark.parametrize("name", RANDOM)
    def test_random_outputs_are_never_real(self, name, images, train_data):
        found = self.audit(Around(zoo("ce"), *RANDOM[name]), images, train_data, n=24)
        assert found.verdict != "REAL"
        assert "expectation" in found.outcomes["outputs"][1].explanation
        assert found.outcomes["outputs"][1].passed is False

    @pytest.mark.parametrize(
        ("name", "scale"),
        [
            ("at", 1),
            pytest.param("trades", 1, marks=pytest.mark.slow),
            pytest.param("ce", 1, marks=pytest.mark.slow),
            pytest.param("at", 0.5, marks=pytest.mark.slow),
            pytest.param("trades", 0.5, marks=pytest.mark.slow),
            pytest.param("ce", 0.5, marks=pytest.mark.slow),
        ],
    )
    def test_real(self, name, scale, images, train_data):
        model = zoo(name) if scale == 1 else Around(zoo(name), None, lambda q: scale * q)
        found = self.audit(model, images, train_data)
        assert found.verdict == "REAL", found.reasons
        assert "REAL at quick budget" in found.summary

    @pytest.mark.slow
    @pytest.mark.parametrize(
        "make",
        [
            lambda: OneHotDecoy(zoo("ce")),
            lambda: SecondBranch(zoo("ce"), zoo("at")),
            lambda: Watchful(zoo("ce")),
            lambda: Either(zoo("ce"), zoo("trades")),
        ],
        ids=["decoy", "second branch", "watchful", "either"],
    )
    def test_gradients_that_mislead_are_never_real(self, make, images, train_data):
        found = self.audit(make(), images, train_data, n=40)
        assert found.verdict != "REAL", found.reasons
        assert found.robust_accuracy < 0.75

    @pytest.mark.slow
    def test_five_levels_protect_at_their_true_number(self, images, train_data):
        model = Around(zoo("ce"), lambda x: torch.round(4 * x) / 4)
        found = self.audit(model, images, train_data, claim=0.9)
        assert found.robust_accuracy > 0.85  # the stand-in gets through, and does not break it
        assert found.verdict != "MASKED"

    @pytest.mark.slow
    def test_a_claim_too_high_is_refuted(self, images, train_data):
        found = self.audit(zoo("ce"), images, train_data, claim=0.9)
        assert found.verdict == "MASKED"
        assert found.claim_source == "given"

    @pytest.mark.slow
    def test_a_model_that_looks_at_its_batch_is_not_real(self, images, train_data):
        class Company(nn.Module):
            def __init__(self, model):
                super().__init__()
                self.model = model

            def forward(self, x):
                return self.model(x) + 0.5 * self.model(x).mean(0)

        found = self.audit(Company(zoo("at")), images, train_data, n=60)
        assert found.verdict != "REAL"

    @pytest.mark.slow
    def test_standard_and_full(self, images, train_data):
        found = self.audit(zoo("at"), images, train_data, n=16, budget="full",
                           surrogates=[zoo("ce")], train_loss="ce")  # fmt: skip
        assert found.verdict == "REAL", found.reasons
        passed = {name: outcome.passed for name, (_, outcome, _) in found.outcomes.items()}
        assert passed["autoattack"] is True
        assert passed["seeds"] is True
        said = found.outcomes["transfer"][1].measured["surrogates"]
        assert "given: surrogate-1" in said


class Small(nn.Module):
    """Knows nothing of this package: three inputs, no linear layer at its end, any range."""

    def __init__(self, classes):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(classes, 3, generator=torch.manual_seed(0)))

    def forward(self, x):
        return torch.relu(x.flatten(1) @ self.weight.T * 3) + x.flatten(1) @ self.weight.T


@pytest.mark.parametrize("classes", [2, 3, 5])
@pytest.mark.parametrize("norm", ["Linf", "L2"])
def test_any_classes_shapes_and_ranges(classes, norm):
    with torch.random.fork_rng():
        model = Small(classes)
    x = 8 * torch.rand(40, 3, generator=torch.Generator().manual_seed(0)) - 4
    y = model(x).argmax(1)
    found = audit(model, x, y, Threat(0.2, -4, 4, norm), budget="quick")
    assert found.verdict in ("REAL", "INCONCLUSIVE")
    assert found.clean.all()
    json.dumps(found.to_json(), allow_nan=False)


def test_a_constant_model():
    model = nn.Sequential(nn.Flatten(), nn.Linear(12, 3))
    with torch.no_grad():
        model[1].weight.zero_()
        model[1].bias.copy_(torch.tensor([1.0, 0.0, 0.0]))
    x = torch.rand(30, 1, 3, 4)
    found = audit(model, x, torch.zeros(30, dtype=torch.int64), THREAT, budget="quick")
    assert found.verdict == "INCONCLUSIVE"  # nothing can be refuted, and nothing was shown
    assert any("withstand any change" in reason for reason in found.reasons)
    wrong = audit(model, x, torch.ones(30, dtype=torch.int64), THREAT, budget="quick")
    assert wrong.robust_accuracy == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"budget": "huge"}, "quick, standard, full"),
        ({"claim": 49}, "not percent"),
        ({"train_loss": "mse"}, "unknown attack loss"),
        ({"train_loss": lambda q, y: q.mean()}, "one value a sample"),
        ({"batch_size": 0}, "batch_size is 0"),
        ({"seed": -1}, "seed is -1"),
        ({"indices": torch.arange(2)}, "2 indices for 4 inputs"),
        ({"surrogates": nn.Linear(3, 3)}, "cannot take these inputs"),
        ({"train_data": (torch.zeros(2, 1, 3, 4), torch.tensor([0, 7]))}, "labels 0 to 7"),
        ({"train_data": (torch.zeros(2, 5), torch.zeros(2))}, "train_data"),
    ],
)
def test_bad_input(options, message):
    model = nn.Sequential(nn.Flatten(), nn.Linear(12, 3))
    x, y = torch.rand(4, 1, 3, 4), torch.zeros(4, dtype=torch.int64)
    with pytest.raises(UserError, match=message):
        audit(model, x, y, THREAT, **options)


class TestEvidence:
    """What counts as a gain, and what calls for adaptive attacks."""

    def case(self, **fooled):
        clean = torch.ones(100, dtype=torch.bool)
        case = Case(None, clean, BUDGETS["quick"])
        for name, (kind, places) in fooled.items():
            flags = torch.zeros(100, dtype=torch.bool)
            flags[places] = True
            case.attempts[name] = Attempt(kind, clean, flags, {})
        return case

    def test_a_gain_must_be_large_and_significant(self):
        white = ("white-box", range(50))
        assert gained(self.case(a=white, b=("black-box", range(40, 57)))) == (False, 2 * 0.5**7)
        assert gained(self.case(a=white, b=("black-box", range(40, 58))))[0]
        assert not gained(self.case(a=white, b=("black-box", range(50))))[0]
        both = self.case(a=white, b=("black-box", range(50, 54)), c=("transfer", range(53, 58)))
        assert gained(both)[0]  # together
        assert not gained(both, "black-box")[0]
        adapted = self.case(a=white, b=("black-box", range(50, 60)), c=("adaptive", range(60)))
        assert not gained(adapted)[0]  # white-box attacks have them too by now

    def test_standing_and_gain(self):
        case = self.case(a=("white-box", range(50)), b=("random", range(45, 55)))
        assert case.standing().sum() == 45
        assert case.standing(("white-box",)).sum() == 50
        assert case.gain("b", case.standing(("white-box",))) == 0.05

    def test_any_failed_check_calls_for_adaptive_attacks(self):
        fine, failed = Outcome(True, {}, "", ""), Outcome(False, {}, "", "")
        assert not needed({"a": fine, "b": Outcome(None, {}, "", "")})
        assert needed({"a": fine, "b": failed})
        assert CHECKS[-1].name == "adaptive"  # after every check that can call for it


class TestState:
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
