"""Adversarial training against its published formulas, and to the bit after a kill."""

import dataclasses

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from robustpolicy import PGD, Threat, UserError, policy_loss
from robustpolicy.models import LeNet5
from robustpolicy.training import get_recipe, train
from robustpolicy.training.adversarial import (
    backward,
    craft_madry,
    craft_mart,
    craft_trades,
    mart_loss,
    objective,
    perturbed_weights,
)
from robustpolicy.training.recipe import (
    CrossEntropy,
    MadryAT,
    Mart,
    NoAdversary,
    Recipe,
    Sgd,
    Trades,
    TwoStage,
)
from robustpolicy.training.state import State
from tests.training.stopping import Stop, StopAt

ADVERSARIES = [
    MadryAT(ramp=0, steps=3),
    Trades(ramp=0, steps=3, beta=2.0),
    Mart(ramp=0, steps=3),
    Trades(ramp=0, steps=3, weight_perturbation=0.01),
]


@pytest.fixture
def batch(digits):
    torch.manual_seed(0)
    return LeNet5().train(), digits.train_images[:16].float() / 255, digits.train_labels[:16]


def generator():
    return torch.Generator().manual_seed(5)


def test_without_an_adversary_it_is_the_loss(batch):
    model, x, y = batch
    loss, logits = objective(model, nn.CrossEntropyLoss(), x, y, None, NoAdversary())
    torch.testing.assert_close(loss, F.cross_entropy(model(x), y))
    assert logits.shape == (16, 10)


def test_madry_is_the_loss_on_the_last_iterate(batch):
    model, x, y = batch
    adversary = MadryAT(ramp=0, steps=4, epsilon=0.2, step_size=0.07)
    noise = torch.empty_like(x).uniform_(-1, 1, generator=generator())
    x_adv = (x + 0.2 * noise).clamp(0, 1)
    for _ in range(4):
        x_adv.requires_grad_()
        (slope,) = torch.autograd.grad(F.cross_entropy(model(x_adv), y), x_adv)
        x_adv = x_adv.detach() + 0.07 * slope.sign()
        x_adv = torch.minimum(torch.maximum(x_adv, x - 0.2), x + 0.2).clamp(0, 1)
    ours = craft_madry(model, x, y, adversary, 0, generator())
    torch.testing.assert_close(ours, x_adv)
    loss, _ = objective(model, nn.CrossEntropyLoss(), x, y, ours, adversary)
    torch.testing.assert_close(loss, F.cross_entropy(model(x_adv), y))


def test_trades_is_the_loss_plus_the_divergence(batch):
    model, x, y = batch
    adversary = Trades(ramp=0, steps=4, epsilon=0.2, step_size=0.07, beta=3.0)
    clean = model(x).softmax(1).detach()
    x_adv = x + 0.001 * torch.empty_like(x).normal_(generator=generator())
    for _ in range(4):
        x_adv.requires_grad_()
        divergence = (clean * (clean.log() - model(x_adv).log_softmax(1))).sum()
        (slope,) = torch.autograd.grad(divergence, x_adv)
        x_adv = x_adv.detach() + 0.07 * slope.sign()
        x_adv = torch.minimum(torch.maximum(x_adv, x - 0.2), x + 0.2).clamp(0, 1)
    torch.testing.assert_close(craft_trades(model, x, adversary, 0, generator()), x_adv)
    loss, _ = objective(model, nn.CrossEntropyLoss(), x, y, x_adv, adversary)
    p, q = model(x).log_softmax(1), model(x_adv).log_softmax(1)
    divergence = (p.exp() * (p - q)).sum(1).mean()
    torch.testing.assert_close(loss, F.cross_entropy(model(x), y) + 3.0 * divergence)
    ours = torch.autograd.grad(loss, model.parameters())
    theirs = torch.autograd.grad(
        F.cross_entropy(model(x), y) + 3.0 * divergence, model.parameters()
    )
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("adversary", ADVERSARIES)
def test_the_model_stays_in_train_mode_with_its_gradients(batch, adversary):
    model, x, y = batch
    before = [p.detach().clone() for p in model.parameters()]
    backward(model, nn.CrossEntropyLoss(), x, y, adversary, 0, generator())
    assert model.training
    assert all(torch.equal(p, old) for p, old in zip(model.parameters(), before, strict=True))
    assert all(p.grad is not None for p in model.parameters())


def test_mart_is_its_formula(batch):
    model, x, y = batch
    adversary = Mart(ramp=0, steps=3, epsilon=0.2, step_size=0.07, beta=4.0)
    x_adv = x + 0.001 * torch.empty_like(x).normal_(generator=generator())
    for _ in range(3):
        x_adv.requires_grad_()
        (slope,) = torch.autograd.grad(F.cross_entropy(model(x_adv), y), x_adv)
        x_adv = x_adv.detach() + 0.07 * slope.sign()
        x_adv = torch.minimum(torch.maximum(x_adv, x - 0.2), x + 0.2).clamp(0, 1)
    torch.testing.assert_close(craft_mart(model, x, y, adversary, 0, generator()), x_adv)
    loss, _ = objective(model, nn.CrossEntropyLoss(), x, y, x_adv, adversary)
    total = 0.0
    for p, q, label in zip(model(x).softmax(1), model(x_adv).softmax(1), y.tolist(), strict=True):
        rival = max(q[k].item() for k in range(10) if k != label)
        boosted = -q[label].log() - torch.log(torch.tensor(1 - rival))
        divergence = (p * (p / q).log()).sum()
        total = total + boosted + 4.0 * divergence * (1 - p[label])
    torch.testing.assert_close(loss, total / len(y), rtol=1e-5, atol=1e-6)


def test_mart_stays_finite():
    logits = (1e3 * torch.randn(50, 4)).requires_grad_()
    loss = mart_loss(logits, -logits, torch.randint(4, (50,)), 5.0)
    (slope,) = torch.autograd.grad(loss, logits)
    assert torch.isfinite(loss)
    assert torch.isfinite(slope).all()


def test_weights_move_along_the_gradient_by_gamma_and_back(batch):
    model, x, y = batch
    model = nn.Sequential(nn.BatchNorm2d(1), model).train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    slopes = dict(
        zip(
            (name for name, _ in model.named_parameters()),
            torch.autograd.grad(F.cross_entropy(model(x), y), model.parameters()),
            strict=True,
        )
    )
    model.load_state_dict(before)
    with perturbed_weights(model, lambda: F.cross_entropy(model(x), y), 0.02):
        for name, weight in model.named_parameters():
            moved = weight - before[name]
            if weight.ndim > 1:
                expected = 0.02 * before[name].norm() * slopes[name] / slopes[name].norm()
                torch.testing.assert_close(moved, expected, rtol=1e-4, atol=1e-6)
            else:
                assert not moved.any()
        raised = F.cross_entropy(model(x), y)
    assert raised > F.cross_entropy(model(x), y)
    model.load_state_dict(before)
    with perturbed_weights(model, lambda: F.cross_entropy(model(x), y), 0.02):
        pass
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())


def test_epsilon_rises_over_the_first_epochs():
    adversary = MadryAT(epsilon=0.3, ramp=2)
    assert [round(adversary.radius(epoch), 6) for epoch in range(4)] == [0.1, 0.2, 0.3, 0.3]


@pytest.mark.parametrize("adversary", ADVERSARIES)
def test_resume_is_bit_identical(tmp_path, adversary):
    recipe = Recipe(
        "digits", "lenet5", optimizer=Sgd(0.05, momentum=0.9), adversary=adversary, epochs=2
    )
    whole = train(recipe, tmp_path / "whole", device="cpu")
    with pytest.raises(Stop):
        train(recipe, tmp_path / "cut", device="cpu", monitor=StopAt(15))
    cut = train(recipe, tmp_path / "cut", device="cpu")
    files = [run.path / "weights.safetensors" for run in (whole, cut)]
    assert files[0].read_bytes() == files[1].read_bytes()
    assert Recipe.from_json(recipe.to_json()) == recipe


@pytest.mark.slow
def test_it_makes_a_network_robust(tmp_path, digits, digits_run):
    plain = digits_run.load_model()
    recipe = Recipe(
        "digits",
        "lenet5",
        optimizer=Sgd(0.02, momentum=0.9),
        adversary=MadryAT(steps=5, step_size=0.05, ramp=8),
        epochs=14,
        batch_size=16,
    )
    robust = train(recipe, tmp_path, device="cpu").load_model()
    x, y = digits.test_images.float() / 255, digits.test_labels
    threat = Threat(0.1)
    shares = [
        (model(PGD(20, 0.0125)(model, x, y, threat)).argmax(1) == y).float().mean()
        for model in (plain, robust)
    ]
    assert shares[1] > shares[0] + 0.2


REFUSED = [
    (lambda: MadryAT(epsilon=0), "epsilon is 0"),
    (lambda: MadryAT(steps=0), "steps is 0"),
    (lambda: Trades(beta=0), "beta is 0"),
    (lambda: Mart(beta=-1), "beta is -1"),
    (lambda: MadryAT(weight_perturbation=2.0), "weight_perturbation is 2.0"),
    (lambda: Recipe(adversary=Mart(), loss=TwoStage()), "a loss of its own"),
    (lambda: Recipe.from_json({"adversary": {"name": "fgsm"}}), "none, madry, trades, mart"),
    (lambda: Recipe.from_json({"adversary": 3}), "must be JSON objects"),
]


@pytest.mark.parametrize(("call", "message"), REFUSED)
def test_bad_input(call, message):
    with pytest.raises(UserError, match=message):
        call()


def test_recipes_are_there():
    assert isinstance(get_recipe("mnist-at").adversary, MadryAT)
    assert dataclasses.asdict(get_recipe("mnist-trades").adversary)["beta"] == 6.0


def bn_model():
    torch.manual_seed(2)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, bias=False),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(2704, 10),
    ).train()


@pytest.mark.parametrize("clean_forwards", [1, 2])
def test_one_clean_forward_changes_running_statistics_alone(digits, clean_forwards):
    x, y = digits.train_images[:16].float() / 255, digits.train_labels[:16]
    adversary = Trades(ramp=0, steps=2, clean_forwards=clean_forwards)
    ours, reference = bn_model(), bn_model()
    x_adv = craft_trades(ours, x, adversary, 0, generator())
    loss, _ = objective(ours, nn.CrossEntropyLoss(), x, y, x_adv, adversary)
    loss.backward()
    # The reference: a clean pass for the loss, one of the examples, another clean one.
    natural = F.cross_entropy(reference(x), y)
    log_q = reference(x_adv).log_softmax(1)
    robust = F.kl_div(log_q, reference(x).softmax(1), reduction="batchmean")
    total = natural + adversary.beta * robust
    total.backward()
    torch.testing.assert_close(loss, total)
    for one, other in zip(ours.parameters(), reference.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad, rtol=1e-4, atol=1e-5)
    same = torch.allclose(ours[1].running_mean, reference[1].running_mean)
    assert same == (clean_forwards == 2)
    assert int(ours[1].num_batches_tracked) == 1 + clean_forwards


def test_the_policy_loss_takes_over_from_cross_entropy_within_trades(tmp_path):
    """Table 6, small: TRADES, its cross-entropy replaced by greedy Eq. 4 after an epoch."""
    swapped = Recipe(
        "digits",
        loss=TwoStage(0.5, warmup="cross-entropy", switch_epoch=2),
        optimizer=Sgd(0.1),
        adversary=Trades(ramp=0, steps=2),
        epochs=3,
        batch_size=64,
    )
    plain = dataclasses.replace(swapped, loss=CrossEntropy())
    ours = train(swapped, tmp_path / "ours", device="cpu").history()
    theirs = train(plain, tmp_path / "theirs", device="cpu").history()
    assert [record["stage"] for record in ours] == [1, 1, 2]
    # Bit for bit the same until then, whatever the accuracy.
    assert [r["loss"] for r in ours[:2]] == [r["loss"] for r in theirs[:2]]
    assert ours[2]["loss"] != theirs[2]["loss"]
    state = State(swapped, torch.device("cpu"))
    state.loss.observe(0.0)
    state.loss.observe(0.0)
    logits, labels = torch.randn(8, 10), torch.arange(8)
    expected = policy_loss(logits, labels, penalty=0.5, actions="greedy").mean()
    torch.testing.assert_close(state.loss(logits, labels), expected)
