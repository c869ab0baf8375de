"""Classifiers of the paper and of its baselines. Inputs in [0, 1], outputs are logits (B, C)."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from robustpolicy.errors import UserError
from robustpolicy.models.actor_critic import ActorCritic
from robustpolicy.models.lenet import LeNet5
from robustpolicy.models.normalize import Normalize
from robustpolicy.models.resnet import ResNet18
from robustpolicy.models.small_cnn import SmallCNN
from robustpolicy.models.vgg import VGG13

#: name -> constructor(num_classes). A new model is one file and one line here.
MODELS: dict[str, Callable[[int], nn.Module]] = {
    "lenet5": LeNet5,
    "resnet18": ResNet18,
    "small-cnn": SmallCNN,
    "vgg13": VGG13,
}


def build_model(name: str, num_classes: int = 10) -> nn.Module:
    """Build a model by its name, with fresh weights from the global generator.

    Raises:
        UserError: an unknown name (lists the known ones) or fewer than 2 classes.
    """
    if name not in MODELS:
        raise UserError(f"unknown model {name!r}; choose one of {', '.join(MODELS)}")
    if num_classes < 2:
        raise UserError(f"num_classes is {num_classes}; give at least 2")
    return MODELS[name](num_classes)


__all__ = [
    "MODELS",
    "VGG13",
    "ActorCritic",
    "LeNet5",
    "Normalize",
    "ResNet18",
    "SmallCNN",
    "build_model",
]
