"""RST: half of each batch from images without labels, which a teacher labels."""

import dataclasses
import json

import numpy as np
import pytest
import torch

from robustpolicy import UserError
from robustpolicy.data import Split, epoch_batches, load_dataset, splits
from robustpolicy.training import Recipe, get_recipe, train
from robustpolicy.training.recipe import Sgd, Trades, Unlabelled
from robustpolicy.training.unlabelled import with_unlabelled

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def few(tmp_path_factory):
    """300 labelled digits as a data set of one's own; the rest without labels."""
    folder = tmp_path_factory.mktemp("few")
    digits = load_dataset("digits")
    arrays = {
        "train_images": digits.train_images[:300],
        "train_labels": digits.train_labels[:300],
        "test_images": digits.test_images,
        "test_labels": digits.test_labels,
    }
    np.savez(folder / "few.npz", **{k: v.numpy() for k, v in arrays.items()})
    np.save(folder / "rest.npy", digits.train_images[300:].numpy())
    return folder


@pytest.fixture(scope="module")
def recipe(few):
    labelled = Recipe(str(few / "few.npz"), "lenet5", optimizer=Sgd(), epochs=30, batch_size=16)
    train(labelled, few / "teacher", device="cpu")
    return dataclasses.replace(
        labelled,
        epochs=15,
        batch_size=32,
        adversary=Trades(steps=2, beta=1.0),
        unlabelled=Unlabelled(str(few / "rest.npy"), str(few / "teacher")),
    )


def test_half_of_each_batch_is_pseudo_labelled(recipe, few):
    dataset = load_dataset(recipe.dataset)
    labelled, _ = splits(dataset, recipe.protocol, recipe.validation)
    whole, joining = with_unlabelled(labelled, recipe, CPU)
    rest = torch.from_numpy(np.load(few / "rest.npy"))
    teacher = _load(few / "teacher")
    expected = teacher(rest.float() / 255).argmax(1)
    assert torch.equal(whole.labels, torch.cat([labelled.labels, expected]))
    truth = load_dataset("digits").train_labels[300:]
    assert 0.6 < (expected == truth).double().mean() < 1  # a teacher that errs
    # Samples by their number: the first of each batch labelled, the others not.
    numbered = Split(torch.arange(len(whole))[:, None, None, None], torch.arange(len(whole)))
    sizes = []
    for _, numbers, total in epoch_batches(numbered, 32, 7, joining=joining):
        own = numbers < len(labelled)
        sizes.append((int(own.sum()), int((~own).sum())))
        assert total == len(numbers)
    assert sizes[:-1] == [(16, 16)] * (len(sizes) - 1)
    assert sizes[-1][1] == 16
    assert sum(own for own, _ in sizes) == len(labelled)


def _load(path):
    from robustpolicy.training import Run

    return Run.open(path).load_model()


def test_they_help_where_labels_are_few(recipe, tmp_path):
    alone = dataclasses.replace(recipe, unlabelled=Unlabelled(), epochs=15)
    accuracy = {}
    for name, one in (("alone", alone), ("with", recipe)):
        run = train(one, tmp_path / name, device="cpu")
        accuracy[name] = _accuracy(run.load_model())
    assert accuracy["with"] > accuracy["alone"]


def _accuracy(model):
    digits = load_dataset("digits")
    with torch.no_grad():
        return (model(digits.test_images.float() / 255).argmax(1) == digits.test_labels).double()\
            .mean().item()  # fmt: skip


def test_the_command_line_and_what_it_refuses(few, cli, recipe, tmp_path):
    file = tmp_path / "r.json"
    file.write_text(json.dumps(dataclasses.replace(recipe, epochs=1).to_json()))
    result = cli("train", "--from", file, "--output", tmp_path / "run", "--device", "cpu")
    assert result.returncode == 0, result.stderr
    result = cli("train", "mnist-rst", "--dataset", few / "few.npz", "--output", tmp_path / "no")
    assert result.returncode == 2
    assert "unlabelled.npz" in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1
    assert not (tmp_path / "no").exists()
    result = cli(
        "train", "mnist-rst", "--dataset", few / "few.npz", "--output", tmp_path / "no",
        "--unlabelled-images", few / "rest.npy", "--teacher", tmp_path,
    )  # fmt: skip
    assert result.returncode == 2
    assert "not a run folder" in result.stderr


@pytest.mark.parametrize(("call", "message"), [
    (lambda: Unlabelled("a.npy"), "need a teacher"),
    (lambda: Unlabelled("", "runs/teacher"), "nothing to label"),
    (lambda: Unlabelled("a.npy", "t", 1.0), "unlabelled_share is 1"),
    (lambda: Recipe.from_json({"unlabelled": {"share": 1}}), "unknown recipe field 'share'"),
])  # fmt: skip
def test_bad_input_is_refused_in_words(call, message):
    with pytest.raises(UserError, match=message):
        call()


def test_a_share_that_is_nothing_of_a_batch(recipe, tmp_path):
    tiny = dataclasses.replace(
        recipe, unlabelled=dataclasses.replace(recipe.unlabelled, unlabelled_share=0.001)
    )
    with pytest.raises(UserError, match="larger batch"):
        train(tiny, tmp_path / "x", device="cpu")


def test_the_published_recipe():
    rst = get_recipe("cifar10-rst")
    assert (rst.unlabelled.unlabelled_share, rst.adversary.beta) == (0.5, 6.0)
    assert Recipe.from_json(rst.to_json()) == rst
