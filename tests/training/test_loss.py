"""From a recipe's loss to a module and to what attacks raise."""

import dataclasses

import pytest
import torch

from robustpolicy import PGD, Threat, evaluate
from robustpolicy.training import get_recipe, train
from robustpolicy.training.loss import TrainingLoss, build_loss
from robustpolicy.training.recipe import GCE, MMC, PC, CrossEntropy, Sgd, TwoStage

LOSSES = [CrossEntropy(), TwoStage(warmup="none"), TwoStage(warmup="none", actions="expected"),
          TwoStage(warmup="none", entropy=0.3), PC(), GCE(), MMC()]  # fmt: skip


@pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: loss.name)
def test_attacks_raise_what_was_trained(loss):
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(30, 4, generator=generator)
    labels = torch.randint(4, (30,), generator=generator)
    values = TrainingLoss(loss)(logits, labels)
    assert values.shape == (30,)
    torch.testing.assert_close(values.mean(), build_loss(loss)(logits, labels))


BASELINES = [(PC(warmup_epochs=12), 0.1), (GCE(), 0.1), (MMC(), 0.003)]


@pytest.mark.parametrize(("loss", "rate"), BASELINES, ids=["pc", "gce", "mmc"])
def test_the_baselines_learn(loss, rate, digits, tmp_path):
    recipe = dataclasses.replace(
        get_recipe("digits-ce"), epochs=16, optimizer=Sgd(rate, drops=(12,)), loss=loss
    )
    run = train(recipe, tmp_path, device="cpu")
    history = run.history()
    assert history[-1]["watched_accuracy"] > 0.85
    if isinstance(loss, PC):
        assert [record["stage"] for record in history] == [1] * 12 + [2] * 4
    x, y = digits.test_images[:50].float() / 255, digits.test_labels[:50]
    attack = PGD(steps=5, step_size=0.02, loss=TrainingLoss(recipe.loss))
    result = evaluate(run.load_model(), x, y, Threat(0.1), (attack,))
    assert result.robust_accuracy < 0.8
    config = result.to_json()["attacks"]["pgd"]["config"]["loss"]
    assert config["name"] == f"training-{loss.name}"


def test_from_the_command_line(digits_run, cli):
    line = ["evaluate", digits_run.path, "--loss", "training", "--samples", "20", "--device", "cpu"]
    done = cli(*line)
    assert done.returncode == 0, done.stderr
    weights = digits_run.path / "weights.safetensors"
    done = cli("evaluate", weights, "--model", "lenet5", "--dataset", "digits", *line[2:])
    assert done.returncode == 2
    assert "--loss training needs a run folder" in done.stderr
