"""Training steps to compare: ours, and plain eager PyTorch's; and what they cost in arithmetic."""

from __future__ import annotations

import copy
import itertools
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from robustpolicy.data import load_dataset, to_float
from robustpolicy.memory import keep_freed_memory
from robustpolicy.models import VGG13, LeNet5
from robustpolicy.training import get_recipe
from robustpolicy.training.distributed import Group
from robustpolicy.training.state import State
from robustpolicy.training.step import train_step

#: model -> the recipe that trains it.
RECIPES = {"LeNet5": "mnist-ce", "VGG13": "cifar10-ce"}
BATCHES = 8  # other images at every step, as in training


class TextbookLeNet5(LeNet5):
    """As everybody writes it: torch's own layers, ReLU before pooling."""

    def forward(self, x: Tensor) -> Tensor:  # noqa: D102
        x = F.max_pool2d(F.relu(self.conv1(x)), 2)
        x = F.max_pool2d(F.relu(self.conv2(x)), 2)
        x = F.relu(self.fc1(x.flatten(1)))
        return self.fc3(F.relu(self.fc2(x)))


class TextbookVGG13(VGG13):
    """As everybody writes it: conv, BatchNorm, ReLU, and max-pooling after the ReLU."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for layer in self.features:
            if isinstance(layer, nn.ReLU):
                continue
            layers.append(layer)
            if isinstance(layer, nn.BatchNorm2d):
                layers.append(nn.ReLU())
        self.features = nn.Sequential(*layers)


TEXTBOOK: dict[str, Callable[[], nn.Module]] = {"LeNet5": TextbookLeNet5, "VGG13": TextbookVGG13}


def batches(model: str, batch: int, count: int = BATCHES) -> list[tuple[Tensor, Tensor]]:
    """Images of the model's data set, float32, and their labels."""
    dataset = load_dataset(get_recipe(RECIPES[model]).dataset)
    images, labels = dataset.train_images.split(batch), dataset.train_labels.split(batch)
    pairs = zip(images[:count], labels[:count], strict=True)
    return [(to_float(x), y) for x, y in pairs]


def plain(model: str, batch: int, threads: int, keep: bool) -> Callable[[], object]:
    """A step as everybody writes it: float32, eager, contiguous NCHW."""
    torch.set_num_threads(threads)
    if keep:
        keep_freed_memory()
    torch.manual_seed(0)
    network = TEXTBOOK[model]()
    optimizer = torch.optim.SGD(network.parameters(), lr=0.01)
    turns = itertools.cycle([(x.contiguous(), y) for x, y in batches(model, batch)])

    def step() -> None:
        x, y = next(turns)
        optimizer.zero_grad()
        F.cross_entropy(network(x), y).backward()
        optimizer.step()

    return step


def ours(model: str, batch: int, threads: int, keep: bool) -> Callable[[], object]:
    """The step of `robustpolicy train`, which sums up loss and accuracy as well."""
    torch.set_num_threads(threads)
    if keep:
        keep_freed_memory()
    state = State(get_recipe(RECIPES[model]), torch.device("cpu"))
    state.optimizer.param_groups[0]["lr"] = 0.01
    state.model.train()
    turns = itertools.cycle(batches(model, batch))
    return lambda: train_step(state, *next(turns), batch, Group())


def difference(model: str, batch: int) -> float:
    """Greatest difference of logits and parameter gradients between the two, relative to each.

    In float64: in float32, rounding turns a few ReLUs of a deep network the other way.
    """
    (x, y), *_ = batches(model, min(batch, 32), 1)
    x = x.double()
    oracle = TEXTBOOK[model]()
    network = {"LeNet5": LeNet5, "VGG13": VGG13}[model]()
    network.load_state_dict(_renamed(oracle, network))
    network.double().to(memory_format=torch.channels_last)
    oracle.double()
    found = []
    for one, images in ((network, x), (oracle, x.contiguous())):
        logits = one(images)
        F.cross_entropy(logits, y).backward()
        found.append([logits.detach(), *(p.grad for p in one.parameters() if p.grad is not None)])
    # A bias before batch normalisation has no gradient but rounding.
    pairs = [(a, b) for a, b in zip(*found, strict=True) if float(b.abs().max()) > 1e-10]
    return max(float((a - b).abs().max() / b.abs().max()) for a, b in pairs)


def _renamed(oracle: nn.Module, network: nn.Module) -> dict[str, Tensor]:
    return dict(zip(network.state_dict(), copy.deepcopy(oracle.state_dict()).values(), strict=True))


def flops(model: str) -> tuple[float, float]:
    """Operations an image that the network needs: a forward pass, and a whole step."""
    network, (x, _) = TEXTBOOK[model](), batches(model, 8, 1)[0]
    with FlopCounterMode(display=False) as counter:
        logits = network(x)
        forward = counter.get_total_flops()
        logits.sum().backward()
    return forward / len(x), counter.get_total_flops() / len(x)


def peak(size: int = 1024, repeats: int = 10) -> float:
    """Operations a second of a large float32 matrix product, the best of some."""
    a, b, out = (torch.randn(size, size) for _ in range(3))
    best = float("inf")
    for _ in range(repeats):
        begun = time.perf_counter()
        torch.mm(a, b, out=out)
        best = min(best, time.perf_counter() - begun)
    return 2 * size**3 / best
