"""The memory layout in which a model is evaluated."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def arrange(model: nn.Module, x: Tensor) -> Tensor:
    """Put a model into the channels-last layout, which is the fastest, if its code can take it.

    A model that calls ``view`` on the output of a convolution, say, cannot; it stays in torch's own
    layout.

    Args:
        model: in eval mode; changed in place.
        x: inputs, shape (N, ...), on any device.

    Returns:
        The inputs in the layout of the model.
    """
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    device = next((parameter.device for parameter in model.parameters()), x.device)
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices), torch.no_grad():
        try:
            model(x[:1].to(device))
        except Exception:  # the user's code can raise anything; what is left of it is said later
            model.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
            return x.contiguous()
    return x
