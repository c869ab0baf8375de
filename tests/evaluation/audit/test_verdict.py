"""The verdict's rule, what counts as evidence, odd models and bad input."""

import json

import pytest
import torch
from torch import nn

from robustpolicy import Threat, UserError, audit
from robustpolicy.evaluation.audit import BUDGETS
from robustpolicy.evaluation.audit.case import Case
from robustpolicy.evaluation.audit.checks import CHECKS
from robustpolicy.evaluation.audit.checks.adaptive import needed
from robustpolicy.evaluation.audit.outcome import Attempt, Outcome
from robustpolicy.evaluation.audit.significance import gained
from robustpolicy.evaluation.audit.thresholds import MARGIN
from robustpolicy.evaluation.audit.verdict import judge_claim

THREAT = Threat(0.1)
FINE = {"a": (True, "fine")}


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

    def test_the_margin(self):
        assert MARGIN == 0.05


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
