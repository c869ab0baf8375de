"""A linear classifier, whose worst case has a closed form, and inputs for it."""

import torch
from torch import nn

from robustpolicy import Threat

THREAT = Threat(0.1)


def linear(seed=0, classes=3, pixels=12):
    """A linear classifier, whose worst case in an l-infinity ball has a closed form."""
    torch.manual_seed(seed)
    return nn.Sequential(nn.Flatten(), nn.Linear(pixels, classes))


def batch(n=40, seed=0, shape=(1, 3, 4), classes=3):
    generator = torch.Generator().manual_seed(seed)
    x = torch.rand(n, *shape, generator=generator)
    return x, torch.randint(classes, (n,), generator=generator)
