"""Models whose robustness is known, and ways to hide their gradients."""

from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import nn

from robustpolicy.models import LeNet5

ZOO = Path(__file__).parent / "zoo"


class _Zero(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, gradient):
        return torch.zeros_like(gradient)


class _Negated(_Zero):
    @staticmethod
    def backward(ctx, gradient):
        return -gradient


class Around(nn.Module):
    """A model with something before it and something after it."""

    def __init__(self, model, before=None, after=None):
        super().__init__()
        self.model, self.before, self.after = model, before, after

    def forward(self, x):
        q = self.model(x if self.before is None else self.before(x))
        return q if self.after is None else self.after(q)


def _no_grad(x):
    with torch.no_grad():
        return x * 1.0


#: name -> what stands before and after the model.
MASKS = {
    "zero gradients": (_Zero.apply, None),
    "negated gradients": (_Negated.apply, None),
    "detach": (lambda x: x.detach(), None),
    "no_grad": (_no_grad, None),
    "logits x 1000": (None, lambda q: 1000 * q),
    "8 levels": (lambda x: torch.round(7 * x) / 7, None),
    "8 levels in bytes": (lambda x: (7 * x + 0.5).to(torch.uint8).float() / 7, None),
    "one-hot": (None, lambda q: F.one_hot(q.argmax(1), q.shape[1]).float()),
    "saturating": (None, lambda q: torch.tanh(20 * (q - q.amax(1, keepdim=True) + 0.01))),
    "softmax": (None, lambda q: (50 * q).softmax(1)),
}


class OneHotDecoy(nn.Module):
    """One-hot outputs, and beside them a linear map whose gradient leads nowhere."""

    def __init__(self, model):
        super().__init__()
        self.model = model
        weight = torch.randn(10, 784, generator=torch.Generator().manual_seed(0)) / 28
        self.register_buffer("weight", weight)

    def forward(self, x):
        answer = F.one_hot(self.model(x).argmax(1), 10).to(x.dtype)
        return answer + 1e-3 * (x.flatten(1) @ self.weight.T)


class SecondBranch(nn.Module):
    """A model that decides without a gradient, and one that gives gradients and hardly counts."""

    def __init__(self, decides, shown):
        super().__init__()
        self.decides, self.shown = decides, shown

    def forward(self, x):
        with torch.no_grad():
            q = self.decides(x)
        return q + 1e-2 * self.shown(x)


class Either(nn.Module):
    """One of two models, drawn at each call."""

    def __init__(self, one, other):
        super().__init__()
        self.one, self.other = one, other

    def forward(self, x):
        return (self.one if torch.rand(()) < 0.5 else self.other)(x)


class Watchful(nn.Module):
    """Another model where gradients are recorded."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, x):
        return self.model(0 * x if torch.is_grad_enabled() else x)


RANDOM = {
    "noise": (lambda x: x + 0.1 * torch.randn_like(x), None),
    "dropout": (lambda x: F.dropout(x, 0.2, training=True), None),
}


def zoo(name):
    model = LeNet5()
    model.load_state_dict(load_file(ZOO / f"mnist-{name}.safetensors"))
    return model.eval()
