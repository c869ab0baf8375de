"""FGSM and PGD: closed forms, early exit, restarts, losses."""

import dataclasses

import pytest
import torch
from torch import nn

from robustpolicy import FGSM, PGD, Threat
from robustpolicy.attacks import (
    ATTACK_LOSSES,
    AttackedModel,
)
from robustpolicy.attacks.noise import keyed
from tests.attacks.cases import THREAT, batch, linear


def test_fgsm_is_eq_29():
    model, (x, y) = linear(), batch()
    x.requires_grad_()
    nn.functional.cross_entropy(model(x), y, reduction="sum").backward()
    expected = (x.detach() + 0.1 * x.grad.sign()).clamp(0, 1)
    torch.testing.assert_close(FGSM()(model, x.detach(), y, THREAT), expected)


def test_pgd_finds_the_worst_case_of_a_linear_model():
    # Two classes: the margin falls by eps * |w|_1 at most, less where the range cuts the ball.
    model, (x, y) = linear(classes=2), batch(200, classes=2)
    weight = model[1].weight.detach()
    w = (weight[0] - weight[1]).view(1, 1, 3, 4) * (1 - 2 * y.view(-1, 1, 1, 1))
    worst = (x - 0.1 * w.sign()).clamp(0, 1)
    expected = model(worst).argmax(1) != y
    attack = PGD(steps=40, step_size=0.01)
    assert torch.equal(model(attack(model, x, y, THREAT)).argmax(1) != y, expected)


@pytest.mark.parametrize("norm", ["Linf", "L2"])
def test_pgd_is_the_textbooks(norm):
    """Written out once more without our parts: start, step, projection; float64."""
    model, (x, y) = linear(pixels=12).double(), batch()
    x, epsilon, step = x.double(), 0.3, 0.05
    start = x + 0.1 * (2 * torch.rand(x.shape, generator=torch.Generator().manual_seed(1)) - 1)
    start = start.clamp(0, 1)
    current = start
    for _ in range(12):
        current = current.detach().requires_grad_()
        nn.functional.cross_entropy(model(current), y).backward()
        if norm == "Linf":
            current = current + step * current.grad.sign()
            current = torch.min(torch.max(current, x - epsilon), x + epsilon)
        else:
            current = (
                current
                + step * current.grad / current.grad.flatten(1).norm(dim=1)[:, None, None, None]
            )
            delta = current - x
            size = delta.flatten(1).norm(dim=1)[:, None, None, None]
            current = x + torch.where(size > epsilon, delta * epsilon / size, delta)
        current = current.clamp(0, 1)
    attack = PGD(steps=12, step_size=step, early_exit=False, last=True)
    found = attack(model, x, y, Threat(epsilon, norm=norm), start=start)
    torch.testing.assert_close(found, current.detach(), atol=1e-9, rtol=0)


def test_one_pgd_step_of_length_epsilon_is_fgsm():
    model = linear()
    x, _ = batch()
    y = model(x).argmax(1)  # all right, so that none leaves at once
    pgd = PGD(steps=1, step_size=0.1, random_start=False)(model, x, y, THREAT)
    torch.testing.assert_close(pgd, FGSM()(model, x, y, THREAT))


class TestEarlyExit:
    @pytest.mark.parametrize("restarts", [1, 3])
    def test_flags_are_the_same_without_it(self, digits, digits_run, restarts):
        model = digits_run.load_model()
        x, y = digits.test_images.float() / 255, digits.test_labels
        attack = PGD(steps=10, step_size=0.02, restarts=restarts)
        fast = model(attack(model, x, y, THREAT)).argmax(1) != y
        slow_attack = dataclasses.replace(attack, early_exit=False)
        slow = model(slow_attack(model, x, y, THREAT)).argmax(1) != y
        assert torch.equal(fast, slow)
        assert 0 < fast.sum() < len(y)

    def test_it_saves_gradients(self, digits, digits_run):
        counts = []
        for early_exit in (True, False):
            with AttackedModel(digits_run.load_model()) as model:
                x, y = digits.test_images.float() / 255, digits.test_labels
                PGD(steps=10, early_exit=early_exit)(model, x, y, Threat(0.3))
            counts.append(model.gradients)
        assert counts[0] < counts[1] == 10 * len(y)

    def test_a_sample_does_not_depend_on_its_batch(self, digits, digits_run):
        model = digits_run.load_model()
        x, y = digits.test_images[:60].float() / 255, digits.test_labels[:60]
        whole = PGD(steps=5)(model, x, y, THREAT)
        some = torch.tensor([50, 3, 17])
        part = PGD(steps=5)(model, x[some], y[some], THREAT, indices=some)
        torch.testing.assert_close(part, whole[some], atol=1e-5, rtol=0)


def test_random_starts_are_keyed():
    x = torch.zeros(5, 2, 3)
    noise = keyed(x, torch.arange(5), 0, "start", 0)
    picked = keyed(x[:2], torch.tensor([4, 1]), 0, "start", 0)
    assert torch.equal(picked, noise[[4, 1]])
    assert not torch.equal(noise, keyed(x, torch.arange(5), 1, "start", 0))
    assert not torch.equal(noise, keyed(x, torch.arange(5), 0, "start", 1))
    assert noise.abs().max() <= 1


def test_restarts_never_help_the_model(digits, digits_run):
    model = digits_run.load_model()
    x, y = digits.test_images.float() / 255, digits.test_labels
    robust = [
        set((model(PGD(steps=5, restarts=r)(model, x, y, THREAT)).argmax(1) == y).nonzero()[:, 0]
            .tolist())
        for r in (1, 2, 4)
    ]  # fmt: skip
    assert robust[2] <= robust[1] <= robust[0]


@pytest.mark.parametrize("name", ATTACK_LOSSES)
def test_attack_losses_rise_where_the_model_errs(name):
    logits = torch.tensor([[3.0, 0.0, 0.0], [0.0, 3.0, 0.0]])
    labels = torch.tensor([0, 0])
    right, wrong = ATTACK_LOSSES[name](logits, labels)
    assert right < wrong


def test_any_function_can_be_the_loss():
    model, (x, y) = linear(), batch()

    def negative_logit(logits, labels):
        return -logits.gather(1, labels[:, None])[:, 0]

    assert THREAT.verify(x, PGD(loss=negative_logit)(model, x, y, THREAT)).all()
