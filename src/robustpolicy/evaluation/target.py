"""What the command line is pointed at: a run folder, a ``module:callable``, or saved weights."""

from __future__ import annotations

import importlib
import os
import sys
import traceback
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from robustpolicy.data import get_source
from robustpolicy.errors import UserError
from robustpolicy.models import build_model
from robustpolicy.training.run import Run, build_recipe_model, load_weights

#: The data set that a model of this package is made for.
DATASET_OF_MODEL = {
    "lenet5": "mnist",
    "small-cnn": "mnist",
    "vgg13": "cifar10",
    "resnet18": "cifar10",
}


@dataclass(frozen=True)
class Target:
    """A model to evaluate, the data set that it is for, and its run if it has one."""

    model: nn.Module
    dataset: str
    run: Run | None = None


def load_target(target: str, model: str | None = None, dataset: str | None = None) -> Target:
    """Load what ``target`` names, in eval mode, on the CPU.

    Args:
        target: a run folder; ``module:callable``, whose code is run and which returns an
            nn.Module; or a file of weights (.safetensors, or .pt with a state dict).
        model: name of the model that the weights belong to.
        dataset: name of the data set; a run knows its own.

    Raises:
        UserError: nothing of that name, or something that cannot be loaded.
    """
    if dataset is not None:
        get_source(dataset)
    path = Path(target)
    if path.is_dir():
        run = Run.open(path)
        if model is not None:
            raise UserError(f"{target} is a run folder and knows its model; leave --model out")
        if dataset not in (None, run.recipe.dataset):
            raise UserError(
                f"{target} was trained on {run.recipe.dataset}, not {dataset}; leave --dataset out"
            )
        return Target(run.load_model(), run.recipe.dataset, run)
    if path.is_file():
        if model is None and path.name in ("weights.safetensors", "best.safetensors"):
            return _of_run(path, dataset)
        if model is None:
            raise UserError(f"{target} is a file of weights; name its model with --model")
        built = build_model(model, len(get_source(dataset).classes) if dataset else 10)
        _load_file(built, path)
        return Target(built.eval(), dataset or DATASET_OF_MODEL[model])
    if ":" in target:
        if dataset is None:
            raise UserError(f"{target} is a model of your own; name its data set with --dataset")
        return Target(_call(target).eval(), dataset)
    raise UserError(
        f"{target} is not a run folder, a file of weights or module:callable; give one of these"
    )


def _of_run(path: Path, dataset: str | None) -> Target:
    """One of the two kinds of weights that a run keeps; the run knows their model."""
    run = Run.open(path.parent)
    model = build_recipe_model(run.recipe)
    load_weights(model, path)
    return Target(model.eval(), dataset or run.recipe.dataset, run)


def _load_file(model: nn.Module, path: Path) -> None:
    if path.suffix == ".safetensors":
        load_weights(model, path)
        return
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged file can raise anything
        raise UserError(
            f"{path} is not a file of plain weights ({_short(error)}); save model.state_dict(), or "
            "use safetensors"
        ) from None
    try:
        model.load_state_dict(state)
    except (RuntimeError, TypeError, AttributeError) as error:
        raise UserError(f"{path} does not fit this --model: {_short(error)}") from None


def _short(error: BaseException) -> str:
    """An error in one line."""
    return " ".join(str(error).split())[:200] or type(error).__name__


def _call(target: str) -> nn.Module:
    """Import ``module:callable`` from the working folder or the path, and call it."""
    module_name, _, name = target.partition(":")
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        made = getattr(importlib.import_module(module_name), name)
        if not isinstance(made, nn.Module):
            made = made()
    except (Exception, SystemExit) as error:  # the user's code can raise anything
        frame = traceback.extract_tb(error.__traceback__)[-1]
        raise UserError(
            f"{target} failed: {type(error).__name__}: {_short(error)} "
            f"({Path(frame.filename).name}, line {frame.lineno}); it must be importable "
            "from here and return an nn.Module"
        ) from None
    if not isinstance(made, nn.Module):
        raise UserError(f"{target} returned {type(made).__name__}; it must return an nn.Module")
    return made
