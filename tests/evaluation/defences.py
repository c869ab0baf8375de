"""Ways to hide gradients, around a model that has them: what an audit must see through."""

import torch
import torch.nn.functional as F
from torch import nn


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
RANDOM = {
    "noise": (lambda x: x + 0.1 * torch.randn_like(x), None),
    "dropout": (lambda x: F.dropout(x, 0.2, training=True), None),
}
