"""Each named recipe, on a few real images: killed at any moment, it ends with the same bytes."""

import dataclasses
import json
import signal
import subprocess
import sys

import numpy as np
import pytest
import torch

from robustpolicy.data import load_dataset
from robustpolicy.training import RECIPES, Run, get_recipe, load_recipe, train

PROGRAM = """
import sys, time, torch
torch.set_num_threads(1)
from robustpolicy.training import Monitor, load_recipe, train
class Tell(Monitor):
    steps = 0
    def step(self):
        Tell.steps += 1
        if Tell.steps == int(sys.argv[3]):
            print("here", flush=True)
            time.sleep(600)  # until it is killed
train(load_recipe(sys.argv[1]), sys.argv[2], device="cpu", monitor=Tell())
"""
COUNT, BATCH, EPOCHS = 12, 8, 3


def _small(recipe, folder):
    """The recipe on a few images of its data set, its schedule and attack cut short."""
    adversary = recipe.adversary
    if hasattr(adversary, "steps"):
        adversary = dataclasses.replace(adversary, steps=2, ramp=min(adversary.ramp, 1))
    loss = recipe.loss
    if getattr(loss, "switch_epoch", 0):
        loss = dataclasses.replace(loss, switch_epoch=1)
    elif hasattr(loss, "threshold"):
        loss = dataclasses.replace(loss, threshold=0.0)  # stage 2 after the first epoch
    if hasattr(loss, "warmup_epochs"):
        loss = dataclasses.replace(loss, warmup_epochs=1)
    unlabelled = recipe.unlabelled
    if unlabelled:
        unlabelled = dataclasses.replace(
            unlabelled, unlabelled_images=str(folder / "more.npy"), teacher=str(folder / "teacher")
        )
    optimizer = dataclasses.replace(
        recipe.optimizer,
        learning_rate=recipe.optimizer.learning_rate / 20,  # so few images diverge otherwise
        drops=(2,) if recipe.optimizer.drops else (),
        warm=0,
    )
    return dataclasses.replace(
        recipe,
        dataset=str(folder / "few.npz"),
        protocol="paper",
        epochs=EPOCHS,
        batch_size=BATCH,
        loss=loss,
        adversary=adversary,
        optimizer=optimizer,
        unlabelled=unlabelled,
    )


def _folder(folder, recipe):
    data = load_dataset(recipe.dataset)
    np.savez(
        folder / "few.npz",
        train_images=data.train_images[:COUNT].numpy(),
        train_labels=np.arange(COUNT) % 10,
        test_images=data.test_images[:20].numpy(),
        test_labels=np.arange(20) % 10,
    )
    if recipe.unlabelled:
        np.save(folder / "more.npy", data.train_images[COUNT : 2 * COUNT].numpy())
        plain = dataclasses.replace(_small(get_recipe("mnist-ce"), folder), model=recipe.model)
        train(plain, folder / "teacher", device="cpu")


@pytest.mark.slow
@pytest.mark.mnist
@pytest.mark.cifar10
@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", RECIPES)
def test_killed_and_resumed_it_is_bit_identical(name, tmp_path, mnist, cifar10):
    torch.set_num_threads(1)
    recipe = get_recipe(name)
    _folder(tmp_path, recipe)
    file = tmp_path / "r.json"
    file.write_text(json.dumps(_small(recipe, tmp_path).to_json()))
    whole = train(load_recipe(file), tmp_path / "whole", device="cpu")
    output = tmp_path / "run"
    command = [sys.executable, "-c", PROGRAM, str(file), str(output)]
    steps = 3 if recipe.unlabelled else 2  # of an epoch; half of each batch is unlabelled
    process = subprocess.Popen([*command, str(steps + 1)], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "here\n"  # in the second epoch
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    assert not (output / "DONE").exists()
    assert (output / "checkpoint.pt").exists()
    subprocess.run([*command, "0"], check=True)
    for weights in ("weights.safetensors", "best.safetensors"):
        assert (output / weights).read_bytes() == (whole.path / weights).read_bytes()
    stages = [record.get("stage", 1) for record in Run.open(output).history()]
    if hasattr(recipe.loss, "switch_epoch") and recipe.loss.warmup != "none":
        assert stages == [1, 2, 2]
