"""The audit against models whose robustness is known."""

import json

import pytest
import torch
from torch import nn

from robustpolicy import PGD, Threat, audit
from robustpolicy.attacks import Transfer
from robustpolicy.evaluation.audit.stand_in import StandIn
from tests.evaluation.audit.defences import (
    MASKS,
    RANDOM,
    Around,
    Either,
    OneHotDecoy,
    SecondBranch,
    Watchful,
    zoo,
)

THREAT = Threat(0.1)


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
        assert not any(module._forward_hooks for module in model.modules())
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
            pytest.param("at", 1, marks=pytest.mark.slow),
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
