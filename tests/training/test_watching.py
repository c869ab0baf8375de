"""What is measured after each epoch, best and last weights, patience, the average of weights."""

import dataclasses
import itertools

import pytest
import torch
from safetensors.torch import load_file

from robustpolicy import PGD, Threat, UserError
from robustpolicy.data import load_dataset, splits
from robustpolicy.evaluation import load_target
from robustpolicy.models import LeNet5
from robustpolicy.training import Run, get_recipe, train
from robustpolicy.training.adversarial import objective
from robustpolicy.training.distributed import Group
from robustpolicy.training.recipe import AdamW, NoAdversary, Recipe, Sgd, Watch
from robustpolicy.training.state import State
from robustpolicy.training.step import train_step
from robustpolicy.training.watching import accuracy_of, is_best, is_over, robust_accuracy_of
from tests.training.stopping import Stop, StopAt

#: A rate so high that accuracy goes up and down.
UNSTEADY = Recipe("digits", optimizer=Sgd(0.3, momentum=0.5), epochs=8, batch_size=32)


def test_best_and_last_weights_are_both_kept(tmp_path):
    recipe = dataclasses.replace(UNSTEADY, watch=Watch(watch_samples=100, keep="best"))
    run = train(recipe, tmp_path, device="cpu")
    scores = [record["watched_robust_accuracy"] for record in run.history()]
    assert max(scores) > scores[-1], "choose another rate: the last epoch is the best"
    _, watched = splits(load_dataset("digits"), "standard", recipe.validation)
    best = run.load_model()
    assert robust_accuracy_of(best, watched, recipe) == max(scores)
    last = load_target(str(tmp_path / "weights.safetensors"))
    assert robust_accuracy_of(last.model, watched, recipe) == scores[-1]
    assert (last.dataset, last.run.recipe) == ("digits", recipe)
    # Of equal ones the first is the best.
    assert is_best([{"watched_accuracy": 0.5}, {"watched_accuracy": 0.6}])
    assert not is_best([{"watched_accuracy": 0.5}, {"watched_accuracy": 0.5}])


def test_watched_robust_accuracy_is_that_of_pgd(tmp_path):
    watch = Watch(watch_samples=60, watch_epsilon=0.05)
    recipe = dataclasses.replace(UNSTEADY, optimizer=Sgd(0.1), epochs=4, watch=watch)
    torch.manual_seed(0)
    _, watched = splits(load_dataset("digits"), "standard", recipe.validation)
    model = train(recipe, tmp_path, device="cpu").load_model()
    ours = robust_accuracy_of(model, watched, recipe)
    chosen = torch.randperm(len(watched), generator=torch.Generator().manual_seed(_seed(recipe)))[
        :60
    ]
    x, y = watched.take(chosen).inputs(), watched.labels[chosen]
    x_adv = PGD(10, 0.0125)(model, x, y, Threat(0.05), seed=0, indices=chosen)
    robust = (model(x).argmax(1) == y) & (model(x_adv).argmax(1) == y)
    assert ours == robust.double().mean().item()
    assert 0 < ours < accuracy_of(model, watched.take(chosen))


def _seed(recipe):
    from robustpolicy.randomness import derive_seed

    return derive_seed(recipe.seed, "watch")


def test_patience_ends_a_training(tmp_path):
    recipe = dataclasses.replace(UNSTEADY, epochs=40, watch=Watch(patience=2))
    run = train(recipe, tmp_path, device="cpu")
    scores = [record["watched_accuracy"] for record in run.history()]
    assert len(scores) < 40
    assert scores.index(max(scores)) == len(scores) - 3
    assert run.done
    assert not is_over([], recipe.watch)


@pytest.mark.parametrize("optimizer", [
    Sgd(0.1, momentum=0.9, nesterov=True, clip_norm=0.5, schedule="cosine", warm=1),
    AdamW(0.003, weight_decay=0.05, warm=1),
])  # fmt: skip
def test_everything_resumes_to_the_bit(tmp_path, optimizer):
    recipe = Recipe(
        "digits",
        optimizer=optimizer,
        epochs=3,
        batch_size=64,
        average=0.9,
        watch=Watch(watch_samples=20, keep="best"),
    )
    whole = train(recipe, tmp_path / "whole", device="cpu")
    for step in (10, 25, 60):
        path = tmp_path / f"cut{step}"
        with pytest.raises(Stop):
            train(recipe, path, device="cpu", monitor=StopAt(step))
        cut = train(recipe, path, device="cpu")
        for name in ("weights", "best"):
            files = [run.path / f"{name}.safetensors" for run in (whole, cut)]
            assert files[0].read_bytes() == files[1].read_bytes()
    assert Recipe.from_json(recipe.to_json()) == recipe
    assert whole.history()[-1]["watched_accuracy"] > 0.8


def test_lost_best_weights_are_named(tmp_path):
    recipe = dataclasses.replace(UNSTEADY, epochs=2, watch=Watch(keep="best"))
    train(recipe, tmp_path, device="cpu")
    (tmp_path / "best.safetensors").unlink()
    with pytest.raises(UserError, match=r"best.safetensors is gone.*delete"):
        train(recipe, tmp_path, device="cpu")


def one_step(state):
    generator = torch.Generator().manual_seed(1)
    x, y = torch.rand(16, 1, 28, 28, generator=generator), torch.arange(16) % 10
    train_step(state, x, y, 16, Group())


def test_the_average_is_its_recurrence():
    state = State(Recipe("digits", average=0.3), torch.device("cpu"))
    expected = [p.detach().double() for p in state.model.parameters()]
    for t in range(6):
        one_step(state)
        keep = min(0.3, (1 + t) / (10 + t))
        expected = [
            keep * e + (1 - keep) * p.detach().double()
            for e, p in zip(expected, state.model.parameters(), strict=True)
        ]
    for e, p in zip(expected, state.average.parameters(), strict=True):
        torch.testing.assert_close(p.double(), e, rtol=1e-5, atol=1e-7)
    assert state.kept is state.average


def test_gradients_are_clipped_to_the_norm():
    state = State(Recipe("digits", optimizer=Sgd(1.0, clip_norm=0.01)), torch.device("cpu"))
    before = [p.detach().clone() for p in state.model.parameters()]
    one_step(state)
    moved = torch.cat([
        (p - old).flatten() for p, old in zip(state.model.parameters(), before, strict=True)
    ])  # fmt: skip
    assert moved.norm().item() == pytest.approx(0.01, rel=1e-4)


def test_schedules():
    cosine = Sgd(0.2, schedule="cosine", warm=2)
    rates = [cosine.rate(epoch, 12) for epoch in range(12)]
    assert rates[:3] == pytest.approx([0.2 / 3, 0.4 / 3, 0.2])
    assert rates[7] == pytest.approx(0.1)  # half way from where it is warm
    assert all(a > b for a, b in itertools.pairwise(rates[2:]))
    assert rates[-1] > 0
    assert Sgd(0.1, drops=(2, 4), drop_factor=0.5).rate(4, 9) == 0.025
    assert AdamW().rate(0, 5) == 0.001


@pytest.mark.parametrize(("call", "message"), [
    (lambda: Watch(patience=-1), "patience is -1"),
    (lambda: Watch(watch_samples=-1), "watch_samples is -1"),
    (lambda: Watch(keep="first"), "last, best"),
    (lambda: Watch(watch_epsilon=0.0), "watch_epsilon is 0"),
    (lambda: Sgd(schedule="cosine", drops=(3,)), "a cosine schedule has no drops"),
    (lambda: Sgd(nesterov=True), "nesterov needs momentum"),
    (lambda: Sgd(clip_norm=-1.0), "clip_norm is -1"),
    (lambda: AdamW(beta2=1.0), "beta2 is 1"),
    (lambda: Recipe(average=1.0), "average is 1"),
    (lambda: Recipe.from_json({"optimizer": {"name": "lion"}}), "unknown optimizer 'lion'"),
    (lambda: Recipe.from_json({"watch": 3}), "watch must be JSON objects"),
    (lambda: train(UNSTEADY, "x", device="cpu", precision="half"), "float32, bfloat16"),
    (lambda: train(UNSTEADY, "x", device="cpu", capture=True), "captured with cuda alone"),
])  # fmt: skip
def test_bad_input_is_refused_in_words(call, message):
    with pytest.raises(UserError, match=message):
        call()


def test_bfloat16_trains_and_keeps_float32_weights(tmp_path):
    recipe = dataclasses.replace(get_recipe("digits-ce").with_epochs(4), seed=1)
    run = train(recipe, tmp_path, device="cpu", precision="bfloat16")
    assert run.history()[-1]["watched_accuracy"] > 0.8
    assert {value.dtype for value in load_file(tmp_path / "weights.safetensors").values()} == {
        torch.float32
    }
    assert Run.open(tmp_path).environment()["precision"] == "bfloat16"
    state = State(recipe, torch.device("cpu"), "bfloat16")
    x = torch.rand(4, 1, 28, 28)
    y = torch.arange(4)
    _, logits = objective(state.model, state.loss, x, y, None, NoAdversary(), "bfloat16")
    assert logits.dtype == torch.float32
    with torch.no_grad():
        gap = (logits - state.model(x)).abs().max()
    assert 0 < gap < 0.1
    assert isinstance(state.model, LeNet5)
