"""Forked runs: bit for bit what an unshared training gives, on a CPU."""

import dataclasses
import json

import pytest
import torch
from torch import nn

from robustpolicy import UserError
from robustpolicy.models import MODELS
from robustpolicy.training import Run, get_recipe, train
from robustpolicy.training.fork import (
    continues,
    fork,
    in_second_stage,
    prefix_complete,
    prefix_of,
)
from robustpolicy.training.recipe import CrossEntropy, MadryAT, TwoStage, Watch

SGD = dataclasses.replace(get_recipe("digits-policy").optimizer, drops=(2,), momentum=0.9)
BASE = dataclasses.replace(
    get_recipe("digits-policy"), epochs=4, batch_size=128, optimizer=SGD, protocol="paper"
)


def with_loss(base=BASE, **changes):
    return dataclasses.replace(base, loss=TwoStage(switch_epoch=2, **changes))


class Normed(nn.Sequential):
    """Small, with running statistics and a dropout that draws from the global stream."""

    def __init__(self, classes):
        super().__init__(
            nn.Conv2d(1, 4, 5, stride=4), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(0.3),
            nn.Flatten(), nn.Linear(144, classes),
        )  # fmt: skip


#: Branches of one prefix, with what there is to carry over: momentum, drawn actions in both
#: stages, the average, the best weights, running statistics, dropout, an adversary's noise.
CASES = {
    "penalties": [with_loss(penalty=0.5), with_loss(penalty=1.5)],
    "actions": [with_loss(actions="sampled"), with_loss(actions="expected")],
    "average": [
        with_loss(
            dataclasses.replace(BASE, model="normed", average=0.9, watch=Watch(keep="best")),
            penalty=p,
        )
        for p in (0.1, 1.0)
    ],
    "batchnorm": [
        with_loss(dataclasses.replace(BASE, model="normed"), actions=a)
        for a in ("sampled", "greedy")
    ],
    "adversary": [
        with_loss(dataclasses.replace(BASE, model="normed", adversary=MadryAT(steps=1)), penalty=p)
        for p in (0.1, 1.0)
    ],
    "cross-entropy": [
        with_loss(warmup="cross-entropy", warmup_penalty=0.1),
        with_loss(warmup="cross-entropy", penalty=0.25),
        dataclasses.replace(BASE, loss=CrossEntropy()),
    ],
}


@pytest.fixture(autouse=True)
def _normed(monkeypatch):
    monkeypatch.setitem(MODELS, "normed", Normed)


def equal(a, b):
    """Whether two checkpoints are the same to the bit, but for seconds."""
    if isinstance(a, dict):
        keys = {key for key in a if key != "seconds"}
        return keys == {key for key in b if key != "seconds"} and all(
            equal(a[key], b[key]) for key in keys
        )
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(equal, a, b))
    return torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b


@pytest.mark.parametrize("name", CASES)
def test_a_forked_run_is_the_unshared_one_to_the_bit(name, tmp_path):
    branches = CASES[name]
    recipe = prefix_of(branches[0])
    assert all(continues(recipe, branch) for branch in branches)
    prefix = train(recipe, tmp_path / "prefix", device="cpu", until=in_second_stage)
    assert prefix_complete(prefix)
    assert not prefix.done
    assert len(prefix.history()) == 2
    for number, branch in enumerate(branches):
        fork(prefix, branch, tmp_path / f"shared{number}")
        shared = train(branch, tmp_path / f"shared{number}", device="cpu")
        whole = train(branch, tmp_path / f"whole{number}", device="cpu")
        assert equal(shared.load_checkpoint(), whole.load_checkpoint())
        assert shared.weights.read_bytes() == whole.weights.read_bytes()
        assert equal(shared.history(), whole.history())
        forked = json.loads((shared.path / "environment.json").read_text())["forked"]
        assert forked == {"from": recipe.id, "epochs": 2}
        assert Run.open(shared.path).recipe == branch
    weights = {(tmp_path / f"shared{n}" / "weights.safetensors").read_bytes() for n in (0, 1)}
    assert len(weights) == 2  # else the comparison would say nothing


def test_a_prefix_without_a_second_stage_is_the_whole_run(tmp_path):
    loss = TwoStage(penalty=0.1, threshold=0.999)
    branch = dataclasses.replace(BASE.with_epochs(2), loss=loss)
    prefix = train(prefix_of(branch), tmp_path / "prefix", device="cpu", until=in_second_stage)
    assert prefix.done
    fork(prefix, branch, tmp_path / "shared")
    shared = train(branch, tmp_path / "shared", device="cpu")
    assert shared.done
    assert shared.weights.read_bytes() == prefix.weights.read_bytes()
    whole = train(branch, tmp_path / "whole", device="cpu")
    assert equal(shared.load_checkpoint(), whole.load_checkpoint())


def test_a_prefix_that_is_complete_stays_as_it_is(tmp_path):
    recipe = prefix_of(with_loss())
    prefix = train(recipe, tmp_path, device="cpu", until=in_second_stage)
    before = (tmp_path / "checkpoint.pt").read_bytes()
    again = train(recipe, tmp_path, device="cpu", until=in_second_stage)
    assert (tmp_path / "checkpoint.pt").read_bytes() == before
    assert len(again.history()) == 2
    done = train(recipe, tmp_path, device="cpu")  # without until, it goes on
    assert done.done
    assert len(prefix.history()) == 4


def test_what_has_the_same_prefix():
    assert prefix_of(with_loss(penalty=0.1)) == prefix_of(with_loss(actions="sampled"))
    assert prefix_of(with_loss(warmup_penalty=0.1)) != prefix_of(with_loss(warmup_penalty=1.0))
    assert prefix_of(with_loss(warmup_actions="greedy")) != prefix_of(with_loss())
    assert prefix_of(dataclasses.replace(with_loss(), seed=1)) != prefix_of(with_loss())
    # Cross-entropy knows neither reward nor the penalty of Eq. 12.
    warm = with_loss(warmup="cross-entropy")
    assert prefix_of(warm) == prefix_of(
        with_loss(warmup="cross-entropy", warmup_penalty=0.1, reward=2.0)
    )
    assert prefix_of(with_loss(warmup="none")) is None
    assert prefix_of(with_loss(actions="sampled", baseline="value")) is None
    assert prefix_of(with_loss(entropy=0.1)) is None
    plain = dataclasses.replace(BASE, loss=CrossEntropy())
    assert prefix_of(plain) is None
    assert continues(prefix_of(warm), plain)
    assert not continues(prefix_of(with_loss()), plain)
    assert not continues(prefix_of(warm), dataclasses.replace(plain, epochs=5))


def test_what_cannot_be_forked(tmp_path):
    recipe = with_loss()
    stopped = train(
        prefix_of(recipe), tmp_path / "prefix", device="cpu", until=lambda state: state.epoch == 1
    )
    with pytest.raises(UserError, match="has not reached its second stage"):
        fork(stopped, recipe, tmp_path / "run")
    other = dataclasses.replace(recipe, seed=1)
    with pytest.raises(UserError, match="is no beginning of this recipe"):
        fork(stopped, other, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_run_under_way_is_not_forked_again(tmp_path):
    recipe = with_loss()
    prefix = train(prefix_of(recipe), tmp_path / "prefix", device="cpu", until=in_second_stage)
    run = train(recipe, tmp_path / "run", device="cpu", until=lambda state: state.epoch == 3)
    fork(prefix, recipe, tmp_path / "run")
    assert len(run.history()) == 3
