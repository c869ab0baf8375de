"""Convolution as one matrix product a member, for networks too small for a convolution kernel."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class RowConv2d(nn.Conv2d):
    """A stride-1 convolution as the product of rows of the image with a banded matrix.

    vmap turns a convolution into one with a group for each network, and grouped convolutions with
    a few channels each leave a GPU idle, above all in the backward pass. Here the ``kh`` rows of
    the image under an output row, flattened, are multiplied with a matrix that holds the kernel at
    every column. That is ``width / kw`` times the arithmetic, most of it with zeros, in a shape
    that matrix units like; the image is copied ``kh`` times and not ``kh * kw`` times.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Output of the convolution, shape (B, O, H', W')."""
        assert not isinstance(self.padding, str)
        (kh, kw), (vertical, horizontal) = self.kernel_size, self.padding
        x = F.pad(x, (horizontal, horizontal, vertical, vertical))
        channels, width = x.shape[1], x.shape[3]
        columns = width - kw + 1
        weight = self.weight.reshape(-1, kw) @ _band(kw, width, x)  # (O C kh, W W')
        weight = weight.view(-1, channels, kh, width, columns).permute(1, 2, 3, 0, 4)
        weight = weight.reshape(channels * kh * width, -1)  # (C kh W, O W')
        rows = x.unfold(2, kh, 1).permute(0, 2, 1, 4, 3)  # (B, H', C, kh, W)
        height = rows.shape[1]
        y = rows.reshape(-1, channels * kh * width) @ weight  # (B H', O W')
        y = y.view(-1, height, self.out_channels, columns).transpose(1, 2)
        return y if self.bias is None else y + self.bias.to(y.dtype)[:, None, None]


def _band(kw: int, width: int, like: Tensor) -> Tensor:
    """1 where input column = output column + kernel column, shape (kw, W * W')."""
    into = torch.arange(width, device=like.device)[:, None]
    out = torch.arange(width - kw + 1, device=like.device)
    kernel = torch.arange(kw, device=like.device)[:, None, None]
    return (into - out == kernel).to(like.dtype).flatten(1)


def use_row_convolutions(model: nn.Module) -> None:
    """Let :class:`RowConv2d` take the place of a model's plain convolutions.

    Parameters keep their names and shapes. Convolutions with strides, dilation, groups or another
    padding than zeros stay what they are.
    """
    for module in model.modules():
        # A subclass can compute anything.
        if type(module) is nn.Conv2d and _is_plain(module):
            module.__class__ = RowConv2d


def _is_plain(conv: nn.Conv2d) -> bool:
    unit = conv.stride == (1, 1) and conv.dilation == (1, 1) and conv.groups == 1
    return unit and conv.padding_mode == "zeros" and not isinstance(conv.padding, str)
