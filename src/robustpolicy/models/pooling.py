r"""Convolution, 2x2 max-pooling and ReLU as one, for layers with few channels on a CPU.

A CPU's convolution kernels work on 16 channels at a time, so a layer with six leaves them mostly
idle, and so does max-pooling. Here images lie as (H, C, W, B), the batch innermost, and every
second window of ``k + 1`` columns is copied out: ``strips``, shape (H, C, k + 1, W', B). The k rows
above one row of outputs are then a matrix as they lie, and two kernels, one shifted by a column,
give the left and the right column of all pooling windows in one product. That is
:math:`(k + 1) / k` times the arithmetic, at the speed of a matrix product, and what is compared
lies in large slabs.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd import forward_ad

#: With fewer samples the slabs are too narrow, and torch's own way is faster (measured).
SMALLEST_BATCH = 32


def conv_pool_relu(conv: nn.Conv2d, x: Tensor) -> Tensor:
    """``relu(max_pool2d(conv(x), 2))``, the faster way where there is one.

    Value and gradients are the same up to rounding, with max-pooling's rule for ties: the first of
    equal values, row by row, has the gradient.

    Args:
        conv: any; one with stride 1 and an odd kernel can be sped up.
        x: shape (B, C, H, W).

    Returns:
        Shape (B, O, H', W').
    """
    if not (_is_plain(conv) and _suits(x, conv)):
        return _pool_relu(conv(x))
    arguments = x, conv.weight, conv.bias, conv.padding
    if torch.is_grad_enabled():
        return _ConvPoolReLU.apply(*arguments)  # type: ignore[no-untyped-call]
    return _ConvPoolReLU.forward(None, *arguments)  # type: ignore[arg-type]


def _is_plain(conv: nn.Conv2d) -> bool:
    # Who replaces a convolution, or hooks into it, expects it to be called.
    hooks = conv._forward_hooks, conv._forward_pre_hooks, conv._backward_hooks
    if type(conv) is not nn.Conv2d or any(hooks) or conv._backward_pre_hooks:
        return False
    (k, other), unit = conv.kernel_size, (1, 1)
    plain = conv.stride == unit and conv.dilation == unit and conv.groups == 1
    zeros = conv.padding_mode == "zeros" and not isinstance(conv.padding, str)
    return plain and zeros and k == other and k % 2 == 1 and conv.bias is not None


def _suits(x: Tensor, conv: nn.Conv2d) -> bool:
    # What is traced or counted, and derivatives other than backward's, are left to torch.
    if torch.compiler.is_compiling() or torch.jit.is_tracing():  # type: ignore
        return False
    if torch._C._len_torch_dispatch_stack() > 0:
        return False
    if torch._C._are_functorch_transforms_active():
        return False
    if type(x) is not Tensor or x.ndim != 4 or x.shape[1] != conv.in_channels:
        return False
    if x.device.type != "cpu" or x.dtype not in (torch.float32, torch.float64):
        return False
    if len(x) < SMALLEST_BATCH or torch.is_autocast_enabled("cpu"):
        return False
    dual = (forward_ad.unpack_dual(t) for t in (x, conv.weight, conv.bias))  # type: ignore
    if any(parts.tangent is not None for parts in dual):
        return False
    assert not isinstance(conv.padding, str)
    sizes = [size + 2 * pad for size, pad in zip(x.shape[2:], conv.padding, strict=True)]
    return all(size % 2 == 0 and size > conv.kernel_size[0] for size in sizes)  # whole windows


def _pool_relu(x: Tensor) -> Tensor:
    # ReLU after pooling: the same function (both are monotone), a quarter of the work.
    return F.relu(F.max_pool2d(x, 2))


class _ConvPoolReLU(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, padding: tuple[int, int]
    ) -> Tensor:
        """The output, shape (B, O, H', W'); nothing is kept for backward if ctx is None."""
        strips, kernels = _strips(x, weight.shape[2], padding), _kernels(weight)
        rows = _rows(strips)
        products = torch.bmm(kernels.expand(len(rows), -1, -1), rows)
        left, right = products.chunk(2, 1)  # (2 H', O, W' B)
        wider = torch.maximum(left, right)
        top, bottom = wider[::2], wider[1::2]  # (H', O, W' B)
        y = torch.maximum(top, bottom).add_(bias[:, None]).relu_()
        if ctx is not None:
            ctx.save_for_backward(x, weight, bias, strips, kernels, right - left, bottom - top, y)
            ctx.padding = padding
        return y.view(*y.shape[:2], *strips.shape[3:]).permute(3, 1, 0, 2)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of input, weight and bias, as far as they are needed."""
        x, weight, bias, strips, kernels, across, down, y = ctx.saved_tensors
        needed = ctx.needs_input_grad[:3]
        if torch.is_grad_enabled():  # it will be differentiated again: by torch itself
            inputs = [t for t, need in zip((x, weight, bias), needed, strict=True) if need]
            again = _pool_relu(F.conv2d(x, weight, bias, padding=ctx.padding))
            found = iter(torch.autograd.grad(again, inputs, gradient, create_graph=True))
            return *(next(found) if need else None for need in needed), None
        gradient = gradient.permute(2, 1, 3, 0).reshape(y.shape)
        gradient = torch.ops.aten.threshold_backward(gradient, y, 0)
        wider = torch.empty_like(across)
        _route(gradient, down, wider[::2], wider[1::2])
        products = across.new_empty(len(across), 2 * y.shape[1], y.shape[2])
        _route(wider, across, *products.chunk(2, 1))
        return (
            _input_gradient(products, kernels, strips, ctx.padding) if needed[0] else None,
            _weight_gradient(products, strips) if needed[1] else None,
            gradient.sum((0, 2)) if needed[2] else None,
            None,
        )


def _strips(x: Tensor, k: int, padding: tuple[int, int]) -> Tensor:
    """Every second window of k + 1 columns: (B, C, H, W) -> (H, C, k + 1, W', B)."""
    x = x.permute(2, 1, 3, 0)
    if any(padding):
        height, channels, width, batch = x.shape
        vertical, horizontal = padding
        inside = x
        x = x.new_zeros(height + 2 * vertical, channels, width + 2 * horizontal, batch)
        x[vertical : vertical + height, :, horizontal : horizontal + width] = inside
    return x.unfold(2, k + 1, 2).permute(0, 1, 4, 2, 3).contiguous()


def _rows(strips: Tensor) -> Tensor:
    """What lies under each row of outputs, a view: shape (2 H', k C (k + 1), W' B)."""
    height, channels, wide, columns, batch = strips.shape
    size, run = channels * wide, columns * batch
    return strips.as_strided((height - wide + 2, (wide - 1) * size, run), (size * run, run, 1))


def _kernels(weight: Tensor) -> Tensor:
    """The kernel for left columns, then the one for right columns: (2 O, k C (k + 1))."""
    out_channels, channels, k, _ = weight.shape
    kernels = weight.new_zeros(2, out_channels, k, channels, k + 1)
    kernels[0, ..., :-1] = kernels[1, ..., 1:] = weight.transpose(1, 2)
    return kernels.view(2 * out_channels, -1)


def _route(gradient: Tensor, difference: Tensor, first: Tensor, second: Tensor) -> None:
    """Give the gradient to the second where the difference is positive, else to the first."""
    # Written into place, and without a mask: comparisons that make bools are slow.
    torch.ops.aten.threshold_backward.grad_input(gradient, difference, 0, grad_input=second)
    torch.sub(gradient, second, out=first)


def _weight_gradient(products: Tensor, strips: Tensor) -> Tensor:
    _, channels, wide, _, _ = strips.shape
    both = torch.bmm(products, _rows(strips).transpose(1, 2)).sum(0)
    left, right = both.view(2, -1, wide - 1, channels, wide).transpose(2, 3)
    return left[..., :-1] + right[..., 1:]


def _input_gradient(
    products: Tensor, kernels: Tensor, strips: Tensor, padding: tuple[int, int]
) -> Tensor:
    height, channels, wide, columns, batch = strips.shape
    to_strips = products.new_zeros(height, channels * wide, columns * batch)
    for i, part in enumerate(kernels.chunk(wide - 1, 1)):  # by row of the kernel
        part = part.t().expand(len(products), -1, -1)
        to_strips[i : i + len(products)].baddbmm_(part, products)
    # Windows overlap by all but two columns: they are added pair of columns by pair.
    pairs = wide // 2
    parts = to_strips.view(height, channels, pairs, 2, columns, batch).transpose(3, 4)
    x = products.new_zeros(height, channels, columns + pairs - 1, 2, batch)
    for i in range(pairs):
        x[:, :, i : i + columns] += parts[:, :, i]
    x = x.view(height, channels, -1, batch)
    vertical, horizontal = padding
    x = x[vertical : height - vertical, :, horizontal : x.shape[2] - horizontal]
    return x.permute(3, 1, 0, 2)
