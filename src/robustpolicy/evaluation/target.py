"""What the command line is pointed at: a run folder, a ``module:callable``, or saved weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from robustpolicy.data import Dataset, Source, check_name, get_source, is_own, load_dataset
from robustpolicy.errors import UserError
from robustpolicy.importing import is_reference
from robustpolicy.models import build_model
from robustpolicy.training.run import Run, load_weights

#: The data set that a model of this package is made for.
DATASET_OF_MODEL = {
    "lenet5": "mnist",
    "small-cnn": "mnist",
    "vit-mnist": "mnist",
    "vgg13": "cifar10",
    "vgg13-narrow": "cifar10",
    "resnet18": "cifar10",
    "small-cnn-cifar10": "cifar10",
    "vit-cifar10": "cifar10",
}


@dataclass(frozen=True)
class Target:
    """A model to evaluate, the data set that it is for, and its run if it has one.

    Attributes:
        model: in eval mode, on the CPU.
        dataset: name of the data set.
        run: whose model it is.
        image_size: to which the images of a folder are scaled.
        data: the data set, if it had to be loaded already.
        chosen: the data set was named, not taken from the run.
    """

    model: nn.Module
    dataset: str
    run: Run | None = None
    image_size: int = 0
    data: Dataset | None = None
    chosen: bool = True

    def load(self, data_dirs: Sequence[str | Path] = ()) -> Dataset:
        """The data set.

        Raises:
            UserError: it cannot be loaded, is not what the run was trained on, or, if it was named
                in its place, does not fit the run.
        """
        data = self.data or self._read(data_dirs)
        if self.run is None or not (is_own(self.dataset) or is_own(self.run.recipe.dataset)):
            return data
        if self.chosen:
            _check_fit(self.run, data)
        elif changed := self.run.dataset_change(data):
            raise UserError(
                f"{self.dataset} has changed since {self.run.path} was trained on it ({changed}), "
                "so test images may have been trained on; to evaluate on it as it is now, give "
                f"--dataset {self.dataset}"
            )
        return data

    def _read(self, data_dirs: Sequence[str | Path]) -> Dataset:
        try:
            return load_dataset(self.dataset, data_dirs, self.image_size)
        except UserError as error:
            if self.run is None or self.chosen or not is_own(self.dataset):
                raise
            raise UserError(
                f"{self.run.path} was trained on {self.dataset}, which cannot be loaded from here "
                f"({error}); go where it can, or name its new place with --dataset"
            ) from None


def load_target(
    target: str, model: str | None = None, dataset: str | None = None, image_size: int = 0
) -> Target:
    """Load what ``target`` names, in eval mode, on the CPU.

    Args:
        target: a run folder; ``module:callable``, whose code is run and which returns an
            nn.Module; or a file of weights (.safetensors, or .pt with a state dict).
        model: name of the model that the weights belong to, or ``module:callable``.
        dataset: name of the data set, or one of the user's own; a run knows its own.
        image_size: side to which the images of a folder are scaled; a run knows its own.

    Raises:
        UserError: nothing of that name, or something that cannot be loaded.
    """
    if dataset is not None:
        check_name(dataset)
    path = Path(target)
    if path.is_dir():
        run = Run.open(path)
        if model is not None:
            raise UserError(f"{target} is a run folder and knows its model; leave --model out")
        return _of_run(run, dataset, image_size)
    if path.is_file():
        if model is None and path.name in ("weights.safetensors", "best.safetensors"):
            return _of_run(Run.open(path.parent), dataset, image_size, path.stem)
        if model is None:
            raise UserError(f"{target} is a file of weights; name its model with --model")
        name = dataset or DATASET_OF_MODEL.get(model)
        if name is None:
            if not is_reference(model):
                build_model(model)  # refuses an unknown name
            raise UserError(f"{target}: name the data set of {model} with --dataset")
        source, data = _describe(name, image_size)
        built = build_model(model, len(source.classes))
        _load_file(built, path)
        return Target(built.eval(), name, image_size=image_size, data=data)
    if is_reference(target):
        if dataset is None:
            raise UserError(f"{target} is a model of your own; name its data set with --dataset")
        source, data = _describe(dataset, image_size)
        built = build_model(target, len(source.classes))
        return Target(built.eval(), dataset, image_size=image_size, data=data)
    raise UserError(
        f"{target} is not a run folder, a file of weights or module:callable; give one of these"
    )


def _of_run(run: Run, dataset: str | None, image_size: int, weights: str | None = None) -> Target:
    model = run.load_model(weights)
    own = run.recipe.dataset
    if dataset is None or dataset == own:
        if image_size not in (0, run.recipe.image_size):
            raise UserError(
                f"{run.path} was trained with --image-size {run.recipe.image_size}, not "
                f"{image_size}; leave --image-size out"
            )
        size = run.recipe.image_size
        return Target(model, own, run, size, chosen=dataset is not None)
    if not (is_own(dataset) or is_own(own)):
        raise UserError(f"{run.path} was trained on {own}, not {dataset}; leave --dataset out")
    size = image_size or (run.recipe.image_size if Path(dataset).is_dir() else 0)
    return Target(model, dataset, run, size)


def _describe(dataset: str, image_size: int) -> tuple[Source, Dataset | None]:
    """Classes and shape of a data set; one of the user's own has to be loaded for that."""
    if is_own(dataset):
        data = load_dataset(dataset, (), image_size)
        return data.source, data
    return get_source(dataset), None


def _check_fit(run: Run, data: Dataset) -> None:
    """Whether a data set has the shape and the classes that the model of a run knows."""
    trained, given = run.source, data.source
    if trained.shape != given.shape:
        raise UserError(
            f"{run.path} was trained on images of shape {trained.shape}, {given.name} has "
            f"{given.shape} (channels, height, width); give one of the same"
        )
    unnamed = tuple(map(str, range(len(trained.classes))))
    known = unnamed not in (trained.classes, given.classes)
    if len(trained.classes) != len(given.classes) or (known and trained.classes != given.classes):
        raise UserError(
            f"{run.path} was trained on the classes {', '.join(trained.classes)[:100]}, "
            f"{given.name} has {', '.join(given.classes)[:100]}; give one of the same"
        )


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
