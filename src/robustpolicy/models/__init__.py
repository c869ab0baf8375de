"""Classifiers of the paper and of its baselines. Inputs in [0, 1], outputs are logits (B, C)."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from torch import nn

from robustpolicy.errors import UserError
from robustpolicy.importing import is_reference
from robustpolicy.models.actor_critic import ActorCritic
from robustpolicy.models.lenet import LeNet5
from robustpolicy.models.mmc import MaxMahalanobis, max_mahalanobis_centers
from robustpolicy.models.normalize import Normalize
from robustpolicy.models.own import build_own
from robustpolicy.models.resnet import ResNet18
from robustpolicy.models.small_cnn import SmallCNN
from robustpolicy.models.vgg import VGG13
from robustpolicy.models.vit import ViT

#: name -> constructor(num_classes). A new model is one file and one line here.
MODELS: dict[str, Callable[[int], nn.Module]] = {
    "lenet5": LeNet5,
    "resnet18": ResNet18,
    "small-cnn": SmallCNN,
    "small-cnn-cifar10": partial(SmallCNN, channels=3, side=32),
    "vgg13": VGG13,
    "vgg13-narrow": partial(VGG13, width=0.25),
    "vit-cifar10": ViT,
    "vit-mnist": partial(ViT, channels=1, side=28, dim=128),
}


def build_model(name: str, num_classes: int = 10) -> nn.Module:
    """Build a model by its name, with fresh weights from the global generator.

    Args:
        name: of :data:`MODELS`, or ``module:callable``, whose code is run.
        num_classes: at least 2.

    Raises:
        UserError: an unknown name (lists the known ones), fewer than 2 classes, or code that fails.
    """
    if is_reference(name):
        return build_own(name, num_classes)
    if name not in MODELS:
        raise UserError(
            f"unknown model {name!r}; choose one of {', '.join(MODELS)}, or give module:callable"
        )
    if num_classes < 2:
        raise UserError(f"num_classes is {num_classes}; give at least 2")
    return MODELS[name](num_classes)


__all__ = [
    "MODELS",
    "VGG13",
    "ActorCritic",
    "LeNet5",
    "MaxMahalanobis",
    "Normalize",
    "ResNet18",
    "SmallCNN",
    "ViT",
    "build_model",
    "max_mahalanobis_centers",
]
