"""Recipes: one frozen tree of dataclasses that says everything about one training run.

No torch here: the command line shows recipes without importing it.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal, get_args, get_origin, get_type_hints

from robustpolicy.errors import UserError

Actions = Literal["greedy", "sampled", "expected"]


@dataclass(frozen=True)
class CrossEntropy:
    """Cross-entropy, the baseline."""

    name: ClassVar[str] = "cross-entropy"


@dataclass(frozen=True)
class TwoStage:
    """The paper's two stages: a warm-up with Eq. 12, then Eq. 4."""

    penalty: float = 1.5
    """Penalty of a wrong action in Eq. 4 (the paper's lambda_2, with reward 1)."""
    warmup_penalty: float = 0.75
    """Penalty of a wrong action in the warm-up, Eq. 12 (the paper's lambda_1)."""
    reward: float = 1.0
    """Reward of a correct action, in both stages."""
    threshold: float = 0.8
    """Accuracy on the watched split above which the second stage begins."""
    warmup: Literal["alternative", "cross-entropy", "none"] = "alternative"
    """First stage: Eq. 12, cross-entropy, or none (Eq. 4 alone, from scratch)."""
    actions: Actions = "greedy"
    """How the second stage takes its actions."""
    warmup_actions: Actions = "sampled"
    """How the warm-up takes its actions."""

    name: ClassVar[str] = "two-stage"

    def __post_init__(self) -> None:
        _check_types(self)
        for name in ("penalty", "warmup_penalty", "reward"):
            _check(self, name, 0 <= getattr(self, name) < float("inf"), "a finite number >= 0")
        for name in ("penalty", "warmup_penalty"):
            if self.reward == 0 and getattr(self, name) == 0:
                raise UserError(f"reward and {name} are both 0; make one of them positive")
        _check(self, "threshold", 0 <= self.threshold < 1, "an accuracy in [0, 1), such as 0.8")


@dataclass(frozen=True)
class PC:
    """Probabilistically compact loss with logit constraints, after a cross-entropy training."""

    margin: float = 0.995
    """How far the right probability should stand above each other one."""
    constraint: float = 0.05
    """Weight of the term that keeps logits close."""
    warmup_epochs: int = 0
    """Epochs of cross-entropy before."""

    name: ClassVar[str] = "pc"

    def __post_init__(self) -> None:
        _check_types(self)
        _check(self, "margin", 0 <= self.margin <= 1, "a probability in [0, 1], such as 0.995")
        _check(self, "constraint", 0 <= self.constraint < float("inf"), "a finite number >= 0")
        _check(self, "warmup_epochs", self.warmup_epochs >= 0, "at least 0")


@dataclass(frozen=True)
class GCE:
    """Guided complement entropy."""

    alpha: float = 1 / 3
    """The guiding exponent."""

    name: ClassVar[str] = "gce"

    def __post_init__(self) -> None:
        _check_types(self)
        _check(self, "alpha", 0 < self.alpha < float("inf"), "an exponent > 0, such as 0.333")


@dataclass(frozen=True)
class NoAdversary:
    """Training on the images as they are."""

    name: ClassVar[str] = "none"


@dataclass(frozen=True)
class _Adversary:
    """The attack inside an adversarial training."""

    epsilon: float = 0.1
    """Radius of the l-infinity ball."""
    steps: int = 10
    """Gradient steps of the attack in each training step."""
    step_size: float = 0.025
    """Length of such a step."""
    ramp: int = 2
    """Epsilon (and the step) rise linearly over this many epochs before they are whole."""
    weight_perturbation: float = 0.0
    """Adversarial weight perturbation: how far each weight tensor is moved, relative to its norm
    (0.005 to 0.01 where it is used; 0 is none)."""

    def __post_init__(self) -> None:
        _check_types(self)
        _check(self, "epsilon", 0 < self.epsilon < float("inf"), "a radius > 0, such as 0.1")
        _check(self, "step_size", 0 < self.step_size < float("inf"), "a length > 0")
        _check(self, "steps", self.steps >= 1, "at least 1")
        _check(self, "ramp", self.ramp >= 0, "at least 0")
        fine = 0 <= self.weight_perturbation < 1
        _check(self, "weight_perturbation", fine, "a share in [0, 1), such as 0.005")

    def radius(self, epoch: int) -> float:
        """Epsilon in an epoch, counted from 0."""
        return self.epsilon * min(1.0, (epoch + 1) / (self.ramp + 1))


@dataclass(frozen=True)
class MadryAT(_Adversary):
    """Adversarial training (Madry et al. 2018): the loss on PGD's last iterate."""

    name: ClassVar[str] = "madry"


@dataclass(frozen=True)
class Trades(_Adversary):
    """TRADES (Zhang et al. 2019): the loss on the image, and beta times the divergence between
    the outputs on the image and on an adversarial one.
    """

    beta: float = 6.0
    """Weight of the divergence."""

    name: ClassVar[str] = "trades"

    def __post_init__(self) -> None:
        super().__post_init__()
        _check(self, "beta", 0 < self.beta < float("inf"), "a number > 0, such as 6")


@dataclass(frozen=True)
class Mart(_Adversary):
    """MART (Wang et al. 2020): a boosted cross-entropy on the adversarial image, and the
    divergence weighted by how far the clean image is from right. It has its own loss.
    """

    beta: float = 5.0
    """Weight of the divergence (the paper's lambda)."""

    name: ClassVar[str] = "mart"

    def __post_init__(self) -> None:
        super().__post_init__()
        _check(self, "beta", 0 < self.beta < float("inf"), "a number > 0, such as 5")


@dataclass(frozen=True)
class Sgd:
    """Stochastic gradient descent with steps down in the learning rate."""

    learning_rate: float = 0.1
    """Learning rate of the first epoch."""
    drops: tuple[int, ...] = ()
    """The learning rate drops after these epochs."""
    drop_factor: float = 0.1
    """The learning rate is multiplied by this at each drop."""
    momentum: float = 0.0
    """Momentum."""
    weight_decay: float = 0.0
    """L2 penalty added to the gradient."""

    def __post_init__(self) -> None:
        _check_types(self)
        if not all(type(drop) is int for drop in self.drops):
            raise UserError(f"drops is {self.drops}; give whole epochs, such as 50 150")
        _check(self, "learning_rate", 0 < self.learning_rate < 1e30, "a number > 0, such as 0.1")
        _check(self, "drop_factor", 0 < self.drop_factor <= 1, "a number in (0, 1]")
        _check(self, "momentum", 0 <= self.momentum < 1, "a number in [0, 1)")
        _check(self, "weight_decay", 0 <= self.weight_decay < float("inf"), "a number >= 0")
        rising = all(a < b for a, b in zip((0, *self.drops), self.drops, strict=False))
        _check(self, "drops", rising, "rising epochs, such as 50 150")

    def rate(self, epoch: int) -> float:
        """Learning rate of an epoch, counted from 0."""
        rate = self.learning_rate * self.drop_factor ** sum(epoch >= drop for drop in self.drops)
        return float(f"{rate:.12g}")  # 0.01, not 0.010000000000000002


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
        _check_types(self)
        _check(self, "epochs", self.epochs >= 1, "at least 1")
        _check(self, "batch_size", self.batch_size >= 1, "at least 1")
        _check(self, "seed", 0 <= self.seed < 2**31, "an integer in [0, 2**31)")
        _check(self, "validation", 0 < self.validation < 1, "a share in (0, 1), such as 0.1")
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


#: Every loss that a recipe can name.
LOSSES: tuple[Any, ...] = (CrossEntropy, TwoStage, PC, GCE)
#: Every adversarial training that a recipe can name.
ADVERSARIES: tuple[Any, ...] = (NoAdversary, MadryAT, Trades, Mart)


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


def _check_types(owner: Any) -> None:
    """Check fields of plain types and of named choices: from Python, nobody else does."""
    for name, wanted in get_type_hints(type(owner)).items():
        value = getattr(owner, name)
        if get_origin(wanted) is Literal:
            if value not in get_args(wanted):
                choices = ", ".join(get_args(wanted))
                raise UserError(f"recipe field {name} is {value!r}; choose one of {choices}")
        elif wanted in (int, float, str, bool):
            whole = wanted is float and type(value) is int
            if type(value) is not wanted and not whole:
                raise UserError(f"recipe field {name} is {value!r}; give {wanted.__name__}")


def _check(owner: object, name: str, fine: bool, allowed: str) -> None:
    if not fine:
        value = getattr(owner, name)
        shown = " ".join(map(str, value)) if isinstance(value, tuple) else value
        raise UserError(f"{name} is {shown}; give {allowed}")
