"""Recipes: JSON, identity, bounds."""

import dataclasses
import json

import pytest
import torch

from robustpolicy import UserError
from robustpolicy.experiments.paper import EXPERIMENTS
from robustpolicy.models import MaxMahalanobis, build_model
from robustpolicy.training.recipe import (
    GCE,
    MMC,
    PC,
    CrossEntropy,
    Recipe,
    Sgd,
    Trades,
    TwoStage,
    load_recipe,
)
from robustpolicy.training.recipes import RECIPES, get_recipe
from robustpolicy.training.run import build_recipe_model


@pytest.mark.parametrize("name", RECIPES)
def test_json_round_trip(name, tmp_path):
    recipe = get_recipe(name)
    path = tmp_path / "recipe.json"
    path.write_text(json.dumps(recipe.to_json()))
    assert load_recipe(path) == recipe
    assert load_recipe(path).id == recipe.id


def test_ids_tell_recipes_apart():
    variants = [
        dataclasses.replace(get_recipe("mnist-policy"), seed=seed, loss=TwoStage(penalty=penalty))
        for seed in range(3)
        for penalty in (0.1, 1.5)
    ]
    assert len({recipe.id for recipe in [*variants, *RECIPES.values()]}) == 6 + len(RECIPES) - 1


def test_the_papers_schedule():
    recipe = get_recipe("mnist-policy")
    rates = [recipe.optimizer.rate(epoch, 200) for epoch in (0, 49, 50, 149, 150, 199)]
    assert rates == [0.1, 0.1, 0.01, 0.01, 0.001, 0.001]
    assert get_recipe("mnist-ce").optimizer.drops == (50,)
    assert (recipe.loss.warmup_penalty, recipe.loss.penalty) == (0.75, 1.5)


def test_drops_scale_with_the_epochs():
    assert get_recipe("mnist-policy").with_epochs(40).optimizer.drops == (10, 30)
    assert get_recipe("mnist-policy").with_epochs(1).optimizer.drops == ()
    assert get_recipe("mnist-policy").with_epochs(3).optimizer.drops == (1, 2)
    assert get_recipe("mnist-pc").with_epochs(16).loss.warmup_epochs == 8


def test_the_ablations_of_table_4():
    rows = ("ce-policy", "policy", "eq4-greedy", "eq4-sampled")
    losses = {f"cifar10-{row}": get_recipe(f"cifar10-{row}").loss for row in rows}
    stages = [(loss.warmup, loss.penalty, loss.actions) for loss in losses.values()]
    assert stages == [
        ("cross-entropy", 1.0, "greedy"),
        ("alternative", 1.25, "greedy"),
        ("none", 1.0, "greedy"),
        ("none", 1.0, "sampled"),
    ]
    assert losses["cifar10-policy"].warmup_penalty == 0.75
    for name in losses:
        recipe = get_recipe(name)
        assert (recipe.model, recipe.epochs, recipe.optimizer.drops) == ("vgg13", 200, (50, 150))


@pytest.mark.parametrize("dataset", ["mnist", "cifar10"])
def test_gupta_is_eq_4_alone_with_drawn_actions(dataset):
    loss = get_recipe(f"{dataset}-gupta").loss
    assert (loss.warmup, loss.actions, loss.penalty, loss.reward) == ("none", "sampled", 1.0, 1.0)


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipes_model_takes_its_images(name):
    recipe = get_recipe(name)
    shape = (3, 32, 32) if recipe.dataset == "cifar10" else (1, 28, 28)
    model = build_recipe_model(recipe).eval()
    with torch.inference_mode():
        assert model(torch.rand(2, *shape)).shape == (2, 10)


def test_mmc_puts_its_layer_behind_the_model():
    recipe = dataclasses.replace(get_recipe("cifar10-mmc"), normalize=True)
    _, (network, head) = build_recipe_model(recipe)
    assert type(network) is type(build_model("vgg13"))
    assert network.classifier.out_features == 256
    assert isinstance(head, MaxMahalanobis)
    torch.testing.assert_close(head.centers.norm(dim=1), torch.full((10,), 10.0))
    small = dataclasses.replace(recipe, loss=MMC(dim=9, scale=2.0))
    assert build_recipe_model(small)[1][1].centers.shape == (10, 9)
    with pytest.raises(UserError, match="10 centres in 8 dimensions"):
        build_recipe_model(dataclasses.replace(recipe, loss=MMC(dim=8)))


def test_everything_of_the_papers_uses_the_papers_protocol():
    for experiment in EXPERIMENTS.values():
        for row in experiment.rows:
            if row.paper:
                assert row.recipe.protocol == "paper"


REFUSED = [
    (lambda: Recipe(epochs=0), "epochs is 0"),
    (lambda: Recipe(batch_size=0), "batch_size is 0"),
    (lambda: Recipe(seed=-1), "seed is -1"),
    (lambda: Recipe(validation=1.0), "validation is 1.0"),
    (lambda: Recipe(epochs=20, optimizer=Sgd(drops=(50,))), "after epoch 50"),
    (lambda: Sgd(drops=(30, 10)), "drops is 30 10"),
    (lambda: Sgd(learning_rate=0), "learning_rate is 0"),
    (lambda: Sgd(learning_rate=float("nan")), "learning_rate is nan"),
    (lambda: Sgd(momentum=1), "momentum is 1"),
    (lambda: TwoStage(penalty=-1), "penalty is -1"),
    (lambda: TwoStage(reward=0, penalty=0), "both 0"),
    (lambda: TwoStage(threshold=80), "threshold is 80"),
    (lambda: TwoStage(draws=0), "draws is 0"),
    (lambda: TwoStage(draws=4), "draws is 4 with greedy actions"),
    (lambda: TwoStage(actions="expected", baseline="mean"), "baseline is mean with expected"),
    (lambda: TwoStage(actions="sampled", baseline="group"), "draws of at least 2"),
    (lambda: TwoStage(actions="sampled", baseline="best"), "none, mean, group, value"),
    (lambda: TwoStage(actions="sampled", clip=0.2), "clip is 0.2 with one pass"),
    (lambda: TwoStage(actions="sampled", clip=float("nan"), passes=2), "clip is nan"),
    (lambda: TwoStage(passes=3), "passes is 3 with greedy actions"),
    (lambda: TwoStage(actions="sampled", passes=0), "passes is 0"),
    (lambda: TwoStage(entropy=-0.1), "entropy is -0.1"),
    (lambda: TwoStage(value_weight=float("inf")), "value_weight is inf"),
    (
        lambda: Recipe(loss=TwoStage(actions="sampled", passes=2), adversary=Trades()),
        "attacks anew",
    ),
    (lambda: PC(margin=2.0), "margin is 2.0"),
    (lambda: GCE(alpha=0.0), "alpha is 0.0"),
    (lambda: MMC(dim=1), "dim is 1"),
    (lambda: MMC(scale=0.0), "scale is 0.0"),
    (lambda: Recipe(loss=PC(warmup_epochs=9), epochs=9), "warmup_epochs is 9 of 9 epochs"),
    (lambda: get_recipe("mnist"), "digits-ce, digits-policy, mnist-ce"),
    (lambda: Recipe.from_json([]), "not list"),
    (lambda: Recipe.from_json({"epoch": 3}), "unknown recipe field 'epoch'"),
    (lambda: Recipe.from_json({"epochs": "3"}), "give int"),
    (lambda: Recipe.from_json({"normalize": 1}), "give bool"),
    (lambda: Recipe.from_json({"protocol": "mine"}), "standard, paper"),
    (lambda: Recipe.from_json({"loss": {"name": "mse"}}), "unknown loss 'mse'"),
    (lambda: Recipe.from_json({"loss": {"name": "two-stage", "actions": "x"}}), "greedy"),
    (lambda: Recipe(protocol="mine"), "standard, paper"),
    (lambda: Recipe(epochs=2.5), "give int"),
    (lambda: Sgd(drops=(1.5,)), "whole epochs"),
    (lambda: Recipe.from_json({"loss": "x"}), "must be JSON objects"),
    (lambda: Recipe.from_json({"loss": None}), "must be JSON objects"),
    (lambda: Recipe.from_json({"loss": {"name": ["a"]}}), "unknown loss"),
    (lambda: Recipe.from_json({"optimizer": 5}), "must be JSON objects"),
    (lambda: Recipe.from_json({"optimizer": {"drops": 5}}), "give whole epochs, such as"),
    (lambda: Recipe.from_json({"optimizer": {"drops": ["a"]}}), "whole epochs"),
    (lambda: load_recipe("nowhere.json"), "nowhere.json is not a readable"),
]


@pytest.mark.parametrize(("call", "message"), REFUSED)
def test_bad_recipes_are_refused_in_words(call, message):
    with pytest.raises(UserError, match=message):
        call()


def test_missing_fields_take_their_defaults():
    assert Recipe.from_json({"dataset": "digits"}) == Recipe("digits", loss=CrossEntropy())
