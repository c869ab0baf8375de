"""One frozen tree of dataclasses that says everything about one training run."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from robustpolicy.errors import UserError
from robustpolicy.training.recipe.adversaries import (
    ADVERSARIES,
    MadryAT,
    Mart,
    NoAdversary,
    Trades,
)
from robustpolicy.training.recipe.fields import check, check_types
from robustpolicy.training.recipe.losses import GCE, LOSSES, MMC, PC, CrossEntropy, TwoStage
from robustpolicy.training.recipe.optimizers import OPTIMIZERS, AdamW, Sgd
from robustpolicy.training.recipe.unlabelled import Unlabelled
from robustpolicy.training.recipe.watch import Watch

#: Parts of a recipe that are of several kinds, told apart by a name, and the usual kind.
_NAMED: dict[str, tuple[tuple[Any, ...], Any]] = {
    "loss": (LOSSES, CrossEntropy),
    "optimizer": (OPTIMIZERS, Sgd),
    "adversary": (ADVERSARIES, NoAdversary),
}
#: Parts that are of one kind.
_PLAIN: dict[str, Any] = {"watch": Watch, "unlabelled": Unlabelled}


@dataclass(frozen=True)
class Recipe:
    """Everything that decides the outcome of one training run, seed included.

    Where it runs (device, threads) is not part of it; the run folder says that.
    """

    dataset: str = "mnist"
    """Data set: digits, mnist or cifar10; or your own: a folder of class folders of images, a .npz
    file, or module:callable (its code is run)."""
    model: str = "lenet5"
    """Model: lenet5, small-cnn or vit-mnist; vgg13, vgg13-narrow, resnet18, small-cnn-cifar10 or
    vit-cifar10; or your own, module:callable (its code is run)."""
    loss: CrossEntropy | TwoStage | PC | GCE | MMC = field(default_factory=CrossEntropy)
    """Training loss."""
    optimizer: Sgd | AdamW = field(default_factory=Sgd)
    """Optimiser and learning rate schedule."""
    adversary: NoAdversary | MadryAT | Trades | Mart = field(default_factory=NoAdversary)
    """Adversarial training, if any."""
    protocol: Literal["standard", "paper"] = "standard"
    """standard: watch a validation split held out of train. paper: train on all of train, watch
    the test split (a leak, kept to reproduce the paper)."""
    epochs: int = 100
    """Passes over the training set."""
    batch_size: int = 128
    """Samples a step."""
    seed: int = 0
    """Seed of weights, order, augmentation and sampled actions."""
    augmentation: Literal["none", "crop-flip"] = "none"
    """crop-flip: random crops after padding by 4 pixels, and horizontal flips."""
    normalize: bool = False
    """Put a layer in front that normalises the inputs by the data set's mean and deviation."""
    validation: float = 0.1
    """Share of train that the standard protocol holds out."""
    average: float = 0.0
    """Decay of an exponential moving average of the weights, step by step; the average is then
    what is watched and kept. 0.999 is usual; 0: the weights themselves."""
    watch: Watch = field(default_factory=Watch)
    """What is measured after each epoch, and what it decides."""
    unlabelled: Unlabelled = field(default_factory=Unlabelled)
    """Images without labels that join the training."""
    image_size: int = 0
    """Scale the images of a folder to squares of this side; 0 takes them as they are."""

    def __post_init__(self) -> None:
        check_types(self)
        check(self, "epochs", self.epochs >= 1, "at least 1")
        check(self, "batch_size", self.batch_size >= 1, "at least 1")
        check(self, "seed", 0 <= self.seed < 2**31, "an integer in [0, 2**31)")
        check(self, "validation", 0 < self.validation < 1, "a share in (0, 1), such as 0.1")
        check(self, "average", 0 <= self.average < 1, "a decay in [0, 1), such as 0.999")
        check(self, "image_size", self.image_size >= 0, "a side in pixels, or 0")
        late = [drop for drop in self.optimizer.drops if drop >= self.epochs]
        if isinstance(self.loss, PC) and self.loss.warmup_epochs >= self.epochs:
            raise UserError(
                f"warmup_epochs is {self.loss.warmup_epochs} of {self.epochs} epochs; give fewer, "
                "so that the loss after it trains too"
            )
        if isinstance(self.loss, TwoStage) and self.loss.switch_epoch >= self.epochs:
            raise UserError(
                f"switch_epoch is {self.loss.switch_epoch} of {self.epochs} epochs; give fewer, so "
                "that the second stage trains too"
            )
        if isinstance(self.adversary, Mart) and not isinstance(self.loss, CrossEntropy):
            raise UserError(
                f"MART has a loss of its own; {self.loss.name} would not be used: leave it out"
            )
        if getattr(self.loss, "passes", 1) > 1 and not isinstance(self.adversary, NoAdversary):
            raise UserError(
                f"passes is {self.loss.passes} with {self.adversary.name}, which attacks anew at "  # type: ignore[union-attr]
                "each step, so that actions would belong to other images; give one pass"
            )
        if late:
            raise UserError(
                f"the learning rate would drop after epoch {late[0]}, but there are "
                f"{self.epochs} epochs; give earlier drops or more epochs"
            )

    @property
    def id(self) -> str:
        """Twelve hexadecimal digits: a hash of the canonical JSON."""
        return hashlib.sha256(json.dumps(self.to_json(), sort_keys=True).encode()).hexdigest()[:12]

    def to_json(self) -> dict[str, Any]:
        """The recipe as plain JSON data; parts of several kinds carry their name."""
        data = json.loads(json.dumps(dataclasses.asdict(self)))
        for part in _NAMED:
            data[part] = {"name": getattr(self, part).name, **data[part]}
        return data

    @classmethod
    def from_json(cls, data: Any) -> Recipe:
        """Rebuild a recipe; fields that are missing take their defaults.

        Raises:
            UserError: not a recipe, an unknown field or loss, a value of a wrong type.
        """
        if not isinstance(data, dict):
            raise UserError(f"a recipe is a JSON object, not {type(data).__name__}")
        data = dict(data)
        for part in (*_NAMED, *_PLAIN):
            data[part] = _part(part, data.get(part, {}))
        return _build(cls, data)

    def with_epochs(self, epochs: int) -> Recipe:
        """The same recipe over other epochs, its drops and warm-up scaled in proportion."""
        scale = epochs / self.epochs
        loss = self.loss
        if isinstance(loss, PC):
            loss = dataclasses.replace(loss, warmup_epochs=int(loss.warmup_epochs * scale))
        if isinstance(loss, TwoStage) and loss.switch_epoch:
            loss = dataclasses.replace(loss, switch_epoch=max(1, int(loss.switch_epoch * scale)))
        drops = {round(drop * scale) for drop in self.optimizer.drops}
        optimizer = dataclasses.replace(
            self.optimizer,
            drops=tuple(sorted(d for d in drops if 0 < d < epochs)),
            warm=int(self.optimizer.warm * scale),
        )
        return dataclasses.replace(self, epochs=epochs, optimizer=optimizer, loss=loss)


def load_recipe(path: str | Path) -> Recipe:
    """Read a recipe.json.

    Raises:
        UserError: no such file, not JSON, or not a recipe.
    """
    path = Path(path)
    try:
        return Recipe.from_json(json.loads(path.read_text()))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise UserError(f"{path} is not a readable recipe.json: {error}") from None
    except UserError as error:
        raise UserError(f"{path}: {error}") from None


def _part(what: str, data: Any) -> Any:
    """Make a part of a recipe; of several kinds, the one that the data's ``name`` stands for."""
    if not isinstance(data, dict):
        raise UserError(f"the recipe's {what} must be JSON objects, not {type(data).__name__}")
    data = dict(data)
    if isinstance(data.get("drops"), list):
        data["drops"] = tuple(data["drops"])
    if what in _PLAIN:
        return _build(_PLAIN[what], data)
    known, usual = _NAMED[what]
    kinds = {kind.name: kind for kind in known}
    name = data.pop("name", usual.name)
    if not isinstance(name, str) or name not in kinds:
        raise UserError(f"unknown {what} {name!r} in the recipe; known are {', '.join(kinds)}")
    return _build(kinds[name], data)


def _build(kind: type, data: dict[str, Any]) -> Any:
    """Make a dataclass from JSON data, refusing unknown fields."""
    fields = [f.name for f in dataclasses.fields(kind)]
    for name in data:
        if name not in fields:
            raise UserError(f"unknown recipe field {name!r}; known are {', '.join(fields)}")
    return kind(**data)
