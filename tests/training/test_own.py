"""Training a model of one's own on images of one's own."""

import dataclasses
import json
import shutil
import sys

import pytest
import torch

from robustpolicy import UserError
from robustpolicy.data import load_dataset
from robustpolicy.training import Monitor, Recipe, Run, train
from robustpolicy.training.recipe import Sgd, TwoStage
from tests.pictures import CODE, write_pictures

RECIPE = Recipe(
    "pictures",
    "mine:make",
    TwoStage(threshold=0.6),
    Sgd(0.05),
    epochs=6,
    batch_size=8,
    normalize=True,
)


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch, digits):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", sys.path[:])
    (tmp_path / "mine.py").write_text(CODE)
    write_pictures(tmp_path / "pictures", digits)
    yield
    sys.modules.pop("mine", None)


class Stop(Exception):
    pass


class StopAfter(Monitor):
    def epoch(self, record):
        raise Stop


def test_it_learns_and_loads_without_the_folder(tmp_path):
    run = train(RECIPE, "run", device="cpu")
    data = load_dataset("pictures")
    kept = json.loads((tmp_path / "run/dataset.json").read_text())
    assert kept["classes"] == ["one", "two", "zero"]
    assert (kept["shape"], kept["train"], kept["test"]) == ([1, 28, 28], 48, 12)
    x = data.test_images.float() / 255
    answers = run.load_model()(x)
    assert (answers.argmax(1) == data.test_labels).float().mean() > 0.8
    shutil.rmtree("pictures")
    again = Run.open("run").load_model()
    assert torch.equal(again(x), answers)
    layer = again[0]  # the statistics of its own data
    assert layer.mean.item() == pytest.approx(data.source.mean[0])
    assert layer.std.item() == pytest.approx(data.source.std[0])
    (tmp_path / "run/dataset.json").unlink()
    with pytest.raises(UserError, match="unknown data set 'pictures'"):
        Run.open("run").load_model()


def test_a_cut_off_run_goes_on_to_the_same_weights():
    whole = train(RECIPE, "whole", device="cpu")
    with pytest.raises(Stop):
        train(RECIPE, "cut", device="cpu", monitor=StopAfter())
    cut = train(RECIPE, "cut", device="cpu")
    weights = [(run.path / "weights.safetensors").read_bytes() for run in (whole, cut)]
    assert weights[0] == weights[1]


@pytest.mark.parametrize("done", [False, True])
def test_changed_data_are_refused(tmp_path, done):
    if done:
        train(RECIPE, "run", device="cpu")
    else:
        with pytest.raises(Stop):
            train(RECIPE, "run", device="cpu", monitor=StopAfter())
    shutil.copy("pictures/one/0.png", "pictures/one/new.png")
    with pytest.raises(UserError, match=r"begun on other data: pictures has changed \(t"):
        train(RECIPE, "run", device="cpu")
    (tmp_path / "pictures/one/new.png").unlink()
    assert train(RECIPE, "run", device="cpu").done
    (tmp_path / "run/dataset.json").write_text("{")
    with pytest.raises(UserError, match=r"dataset.json is damaged"):
        train(RECIPE, "run", device="cpu")


def test_data_of_the_package_need_no_description(digits_run):
    assert not (digits_run.path / "dataset.json").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": "mine:View"}, r"mine.py, line 16\); use .reshape or .flatten\(1\)"),
        ({"model": "mine:Both"}, "returns tuple; it must return logits"),
        ({"model": "mine:Breaks"}, r"AttributeError.*\(mine.py, line 28\); choose another --mod"),
        ({"model": "mine:ten"}, r"returns shape \(2, 10\) for a batch of 2, but pictures has 3"),
        ({"model": "mine:nothing"}, "no parameters to train"),
        ({"model": "mine:absent"}, "no attribute 'absent'"),
        ({"model": "gone:make"}, "No module named 'gone'"),
        ({"model": "alexnet"}, "or give module:callable"),
        ({"model": "resnet18"}, "scale the images of a folder with --image-size"),
        ({"model": "lenet5", "image_size": 20}, r"shape \(1, 20, 20\)"),
        ({"model": "mine:normalised", "batch_size": 42}, "choose another --batch-size"),
        ({"dataset": "nowhere"}, "unknown data set 'nowhere'"),
        ({"dataset": "digits", "image_size": 20}, "digits has a size of its own"),
    ],
)
def test_what_does_not_fit_is_said_before_anything_is_written(tmp_path, changes, message):
    with pytest.raises(UserError, match=message) as caught:
        train(dataclasses.replace(RECIPE, **changes), "run", device="cpu")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_a_model_of_the_package_on_images_of_ones_own():
    recipe = dataclasses.replace(RECIPE, model="lenet5", epochs=1)
    assert train(recipe, "run", device="cpu").load_model()(torch.rand(2, 1, 28, 28)).shape == (2, 3)


def test_image_size_is_a_side():
    with pytest.raises(UserError, match="image_size is -1"):
        Recipe(image_size=-1)
