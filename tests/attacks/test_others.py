"""SPSA, transfer, robustness over epsilon."""

import itertools

import pytest
import torch
from torch import nn

from robustpolicy import PGD, Threat, UserError
from robustpolicy.attacks import (
    APGD,
    ATTACK_LOSSES,
    SPSA,
    AttackedModel,
    Square,
    Transfer,
)
from robustpolicy.evaluation.curve import robustness_curve
from robustpolicy.models import build_model
from tests.attacks.cases import THREAT, batch, linear


class TestBeyondPgd:
    def test_the_last_iterate_is_plain_pgd(self):
        model, (x, y) = linear(), batch()
        last = PGD(steps=7, step_size=0.03, last=True, random_start=False)(model, x, y, THREAT)
        plain = x.clone()
        for _ in range(7):
            plain.requires_grad_()
            loss = nn.functional.cross_entropy(model(plain), y, reduction="sum")
            (gradient,) = torch.autograd.grad(loss, plain)
            plain = plain.detach() + 0.03 * gradient.sign()
            plain = torch.minimum(torch.maximum(plain, x - 0.1), x + 0.1).clamp(0, 1)
        torch.testing.assert_close(last, plain)

    def test_spsa_estimates_the_gradient(self):
        model, (x, y) = linear(), batch(4)
        with AttackedModel(model) as attacked:
            exact, _, _ = attacked.gradient(x, y, ATTACK_LOSSES["margin"])
            estimate = SPSA(directions=20_000)._estimate(
                attacked, x, y, ATTACK_LOSSES["margin"], torch.Generator().manual_seed(0)
            )
        torch.testing.assert_close(estimate, exact, atol=0.05, rtol=0)

    def test_spsa_breaks_a_model_without_gradients(self, digits, digits_run):
        class Rounded(nn.Module):
            """Gradients are zero everywhere, differences are not."""

            def __init__(self, model):
                super().__init__()
                self.model = model

            def forward(self, x):
                return self.model(x + ((x * 200).round() / 200 - x).detach() * 1 - (x - x.detach()))

        model = Rounded(digits_run.load_model())
        x, y = digits.test_images[:30].float() / 255, digits.test_labels[:30]
        threat = Threat(0.15)
        blind = (model(PGD()(model, x, y, threat)).argmax(1) == y).sum()
        x_adv = SPSA(steps=40, directions=32)(model, x, y, threat)
        assert threat.verify(x, x_adv).all()
        assert (model(x_adv).argmax(1) == y).sum() < blind - 5

    def test_leaving_changes_nothing_for_the_others(self, digits, digits_run):
        model = digits_run.load_model()
        x, y = digits.test_images[:12].float() / 255, digits.test_labels[:12]
        some = torch.tensor([3, 7, 9])
        for attack in (SPSA(steps=3, directions=4), Square(queries=20), APGD(steps=5)):
            whole = attack(model, x, y, THREAT)
            part = attack(model, x[some], y[some], THREAT, indices=some)
            torch.testing.assert_close(part, whole[some], atol=1e-4, rtol=0)

    def test_transfer(self, digits, digits_run):
        model = digits_run.load_model()
        x, y = digits.test_images[:60].float() / 255, digits.test_labels[:60]
        itself = Transfer((model,))(model, x, y, THREAT)
        assert THREAT.verify(x, itself).all()
        white = (model(PGD(last=True)(model, x, y, THREAT)).argmax(1) == y).sum()
        assert (model(itself).argmax(1) == y).sum() == white
        stranger = build_model("small-cnn").eval()  # knows nothing: nothing travels
        weak = (model(Transfer((stranger,))(model, x, y, THREAT)).argmax(1) == y).sum()
        assert weak > white
        with pytest.raises(UserError, match="at least one surrogate"):
            Transfer(())

    def test_curve_falls_and_is_no_weaker_than_separate_attacks(self, digits, digits_run):
        model = digits_run.load_model()
        x, y = digits.test_images[:80].float() / 255, digits.test_labels[:80]
        epsilons = [0.02, 0.05, 0.1, 0.5]
        flags = robustness_curve(model, x, y, THREAT, epsilons, steps=10)
        assert flags.shape == (4, 80)
        for smaller, larger in itertools.pairwise(flags):
            assert not (larger & ~smaller).any()
        assert flags[-1].float().mean() < 0.2
        alone = model(PGD(10, 0.025)(model, x, y, THREAT)).argmax(1) == y
        assert flags[2].sum() <= alone.sum() + 2
        with pytest.raises(UserError, match="rising radii"):
            robustness_curve(model, x, y, THREAT, [0.1, 0.1])
