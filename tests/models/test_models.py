"""Shapes and sizes of the models."""

import copy

import pytest
import torch
from torch import nn

from robustpolicy import UserError
from robustpolicy.models import MODELS, VGG13, ActorCritic, LeNet5, Normalize, build_model

TABLE = [
    ("lenet5", (1, 28, 28), 61_706),
    ("small-cnn", (1, 28, 28), 312_202),
    ("small-cnn-cifar10", (3, 32, 32), 427_978),
    ("vgg13", (3, 32, 32), 9_416_010),
    ("vgg13-narrow", (3, 32, 32), 591_962),
    ("resnet18", (3, 32, 32), 11_173_962),
    ("vit-mnist", (1, 28, 28), 1_199_626),
    ("vit-cifar10", (3, 32, 32), 2_693_194),
]


@pytest.mark.parametrize(("name", "shape", "parameters"), TABLE)
def test_size_and_output(name, shape, parameters):
    model = build_model(name)
    assert sum(p.numel() for p in model.parameters()) == parameters
    logits = model(torch.rand(2, *shape))
    assert logits.shape == (2, 10)
    assert build_model(name, 3)(torch.rand(2, *shape)).shape == (2, 3)


def test_every_model_is_tested():
    assert {name for name, _, _ in TABLE} == set(MODELS)


def test_unknown_model_lists_the_known():
    with pytest.raises(UserError, match="lenet5, resnet18, small-cnn, small-cnn-cifar10, vgg13"):
        build_model("alexnet")


def test_pooling_before_relu_is_the_textbook_network(cifar10):
    """VGG13 in train mode: logits, gradients and running statistics. LeNet5: test_pooling.py."""
    torch.manual_seed(0)
    model = VGG13(width=0.25).double()
    oracle = copy.deepcopy(model)
    model.to(memory_format=torch.channels_last)
    layers = []
    for layer in oracle.features:
        if isinstance(layer, nn.Conv2d):
            layers += [layer]
        elif isinstance(layer, nn.BatchNorm2d):
            layers += [layer, nn.ReLU()]
        elif isinstance(layer, nn.MaxPool2d):
            layers += [layer]
    x, y = cifar10.train_images[:16].double() / 255, cifar10.train_labels[:16]
    inputs = x.clone().requires_grad_(), x.clone().requires_grad_()
    logits = model(inputs[0]), oracle.classifier(nn.Sequential(*layers)(inputs[1]).flatten(1))
    for part in logits:
        nn.functional.cross_entropy(part, y).backward()
    torch.testing.assert_close(*logits)
    torch.testing.assert_close(inputs[0].grad, inputs[1].grad)
    for mine, theirs in zip(model.parameters(), oracle.parameters(), strict=True):
        torch.testing.assert_close(mine.grad, theirs.grad)
    for mine, theirs in zip(model.buffers(), oracle.buffers(), strict=True):
        torch.testing.assert_close(mine, theirs)


def test_a_critic_is_one_more_output():
    network = LeNet5(11)
    model = ActorCritic(network)
    x = torch.rand(4, 1, 28, 28)
    logits, values = model.both(x)
    assert torch.equal(torch.cat([logits, values[:, None]], 1), network(x))
    assert torch.equal(model(x), logits)
    assert logits.shape == (4, 10)


def test_normalisation_has_no_state():
    layer = Normalize((0.5, 0.4, 0.3), (0.2, 0.2, 0.1))
    x = torch.rand(2, 3, 4, 4)
    torch.testing.assert_close(layer(x)[:, 2], (x[:, 2] - 0.3) / 0.1)
    assert not layer.state_dict()
