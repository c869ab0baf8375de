"""Training with what goes beyond the paper: passes, a critic, resumption, adversaries."""

import dataclasses

import pytest
import torch

from robustpolicy import Threat, evaluate
from robustpolicy.models import ActorCritic, LeNet5
from robustpolicy.training import get_recipe, train
from robustpolicy.training.adversarial import objective
from robustpolicy.training.loss import build_loss
from robustpolicy.training.recipe import MadryAT, NoAdversary, Sgd, Trades, TwoStage
from tests.training.stopping import Stop, StopAt

#: All of it at once, with a critic: an epoch of stage 2 after some of cross-entropy.
LOSS = TwoStage(warmup="cross-entropy", actions="sampled", threshold=0.5, draws=2,
                baseline="value", entropy=0.05, clip=0.2, passes=3)  # fmt: skip
RECIPE = dataclasses.replace(get_recipe("digits-policy"), loss=LOSS, epochs=4, optimizer=Sgd(0.05))


def weights(run):
    return (run.path / "weights.safetensors").read_bytes()


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    return train(RECIPE, tmp_path_factory.mktemp("undisturbed"), device="cpu")


def test_both_stages_were_trained(undisturbed):
    stages = [record["stage"] for record in undisturbed.history()]
    assert (stages[0], stages[-1]) == (1, 2)


@pytest.mark.parametrize("step", [100, 250])
def test_resume_is_bit_identical(undisturbed, tmp_path, step):
    with pytest.raises(Stop):
        train(RECIPE, tmp_path, device="cpu", monitor=StopAt(step))
    run = train(RECIPE, tmp_path, device="cpu")
    assert weights(run) == weights(undisturbed)
    for ours, theirs in zip(run.history(), undisturbed.history(), strict=True):
        assert {**ours, "seconds": 0} == {**theirs, "seconds": 0}


def test_a_saved_actor_critic_is_a_classifier(undisturbed, digits):
    model = undisturbed.load_model()
    assert isinstance(model, ActorCritic)
    x, y = digits.test_images[:50].float() / 255, digits.test_labels[:50]
    assert model(x).shape == (50, 10)
    result = evaluate(model, x, y, Threat(0.05), ("clean",))
    assert result.to_json()["n"] == 50


@pytest.mark.parametrize(
    "options",
    [
        {"baseline": "group", "draws": 4},
        {"baseline": "mean", "entropy": 0.01, "clip": 0.2, "passes": 3},
    ],
    ids=lambda options: "-".join(options),
)
def test_each_option_learns_the_digits(options, tmp_path):
    loss = TwoStage(warmup="cross-entropy", actions="sampled", **options)
    recipe = dataclasses.replace(
        get_recipe("digits-policy"), epochs=10, optimizer=Sgd(0.05, drops=(7,)), loss=loss
    )
    history = train(recipe, tmp_path, device="cpu").history()
    assert history[-1]["stage"] == 2
    assert history[-1]["watched_accuracy"] > 0.85


@pytest.mark.parametrize("adversary", [NoAdversary(), MadryAT(), Trades(beta=2.0)])
def test_the_critic_sees_what_the_policy_sees(adversary):
    torch.manual_seed(0)
    model = ActorCritic(LeNet5(11))
    loss = TwoStage(warmup="none", actions="sampled", baseline="value")
    clean, moved = torch.rand(8, 1, 28, 28), torch.rand(8, 1, 28, 28)
    labels = torch.arange(8)
    adversarial = None if isinstance(adversary, NoAdversary) else moved

    def loss_fn():
        return build_loss(loss, torch.Generator().manual_seed(3))

    value, logits = objective(model, loss_fn(), clean, labels, adversarial, adversary)
    seen = moved if isinstance(adversary, MadryAT) else clean
    expected, values = model.both(seen)
    exact = loss_fn()(expected, labels, values=values)
    if isinstance(adversary, Trades):
        p, q = expected.softmax(1), model(moved).softmax(1)
        exact = exact + 2.0 * (p * (p.log() - q.log())).sum(1).mean()
    torch.testing.assert_close(value, exact)
    torch.testing.assert_close(logits, expected)
    value.backward()
    assert model.model.fc3.weight.grad[-1].abs().sum() > 0
