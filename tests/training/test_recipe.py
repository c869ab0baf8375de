"""Recipes: JSON, identity, bounds."""

import dataclasses
import json

import pytest

from robustpolicy import UserError
from robustpolicy.experiments.paper import EXPERIMENTS
from robustpolicy.training.recipe import GCE, PC, CrossEntropy, Recipe, Sgd, TwoStage, load_recipe
from robustpolicy.training.recipes import RECIPES, get_recipe


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


def test_everything_of_the_papers_uses_the_papers_protocol():
    for experiment in EXPERIMENTS.values():
        for row in experiment.rows:
            if row.paper is not None:
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
    (lambda: PC(margin=2.0), "margin is 2.0"),
    (lambda: GCE(alpha=0.0), "alpha is 0.0"),
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
