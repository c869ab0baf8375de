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
from robustpolicy.training.recipe.losses import GCE, LOSSES, PC, CrossEntropy, TwoStage
from robustpolicy.training.recipe.optimizers import Sgd


@dataclass(frozen=True)
class Recipe:
    """Everything that decides the outcome of one training run, seed included.

    Where it runs (device, threads) is not part of it; the run folder says that.
    """

    dataset: str = "mnist"
    """Data set: digits, mnist or cifar10."""
    model: str = "lenet5"
    """Model: lenet5, small-cnn, vgg13 or resnet18."""
    loss: CrossEntropy | TwoStage | PC | GCE = field(default_factory=CrossEntropy)
    """Training loss."""
    optimizer: Sgd = field(default_factory=Sgd)
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

    def __post_init__(self) -> None:
        check_types(self)
        check(self, "epochs", self.epochs >= 1, "at least 1")
        check(self, "batch_size", self.batch_size >= 1, "at least 1")
        check(self, "seed", 0 <= self.seed < 2**31, "an integer in [0, 2**31)")
        check(self, "validation", 0 < self.validation < 1, "a share in (0, 1), such as 0.1")
        late = [drop for drop in self.optimizer.drops if drop >= self.epochs]
        if isinstance(self.loss, PC) and self.loss.warmup_epochs >= self.epochs:
            raise UserError(
                f"warmup_epochs is {self.loss.warmup_epochs} of {self.epochs} epochs; give fewer, "
                "so that the loss after it trains too"
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
        """The recipe as plain JSON data; losses carry their name."""
        data = json.loads(json.dumps(dataclasses.asdict(self)))
        data["loss"] = {"name": self.loss.name, **data["loss"]}
        data["adversary"] = {"name": self.adversary.name, **data["adversary"]}
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
        loss = _named("loss", data.pop("loss", {"name": CrossEntropy.name}), LOSSES)
        adversary = _named(
            "adversary", data.pop("adversary", {"name": NoAdversary.name}), ADVERSARIES
        )
        optimizer = data.pop("optimizer", {})
        if not isinstance(optimizer, dict):
            raise UserError("the recipe's optimizer must be JSON objects, not a value")
        drops = optimizer.get("drops", [])
        if not isinstance(drops, (list, tuple)):
            raise UserError(f"drops is {drops!r}; give a list of epochs, such as [50, 150]")
        optimizer = {**optimizer, "drops": tuple(drops)}
        parts = {"loss": loss, "adversary": adversary, "optimizer": _build(Sgd, optimizer)}
        return _build(cls, {**data, **parts})

    def with_epochs(self, epochs: int) -> Recipe:
        """The same recipe over other epochs, its drops and warm-up scaled in proportion."""
        scale = epochs / self.epochs
        loss = self.loss
        if isinstance(loss, PC):
            loss = dataclasses.replace(loss, warmup_epochs=int(loss.warmup_epochs * scale))
        drops = {round(drop * scale) for drop in self.optimizer.drops}
        optimizer = dataclasses.replace(
            self.optimizer, drops=tuple(sorted(d for d in drops if 0 < d < epochs))
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


def _named(what: str, data: Any, known: tuple[Any, ...]) -> Any:
    """Make the dataclass that the data's ``name`` stands for."""
    if not isinstance(data, dict):
        raise UserError(f"the recipe's {what} must be JSON objects, not {type(data).__name__}")
    kinds = {kind.name: kind for kind in known}
    name = data.get("name")
    if not isinstance(name, str) or name not in kinds:
        raise UserError(f"unknown {what} {name!r} in the recipe; known are {', '.join(kinds)}")
    return _build(kinds[name], {key: value for key, value in data.items() if key != "name"})


def _build(kind: type, data: dict[str, Any]) -> Any:
    """Make a dataclass from JSON data, refusing unknown fields."""
    fields = [f.name for f in dataclasses.fields(kind)]
    for name in data:
        if name not in fields:
            raise UserError(f"unknown recipe field {name!r}; known are {', '.join(fields)}")
    return kind(**data)
