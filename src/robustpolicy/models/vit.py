"""A small vision transformer (Dosovitskiy et al. 2021) for images of 28 or 32 pixels.

The paper names transformers as future work. This one is chosen, not published: small enough to
train from scratch on MNIST and CIFAR-10.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from robustpolicy.errors import UserError

PATCH = 4
DEPTH = 6
HEADS = 4
EXPANSION = 4  # of the two-layer network in a block


class Block(nn.Module):
    """Self-attention, then a two-layer network, each normalised before and added to its input."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim)
        self.qkv = nn.Linear(dim, 3 * dim)
        self.projection = nn.Linear(dim, dim)
        self.norm2 = nn.LayerNorm(dim)
        self.fc1 = nn.Linear(dim, EXPANSION * dim)
        self.fc2 = nn.Linear(EXPANSION * dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        """Tokens of the next block, shape (B, N, dim)."""
        x = x + self.attend(self.norm1(x))
        return x + self.fc2(F.gelu(self.fc1(self.norm2(x))))

    def attend(self, x: Tensor) -> Tensor:
        """What each token takes from all of them, shape (B, N, dim)."""
        parts = self.qkv(x).unflatten(2, (3, HEADS, -1))  # (B, N, 3, heads, dim / heads)
        query, key, value = parts.permute(2, 0, 3, 1, 4).unbind()
        taken = F.scaled_dot_product_attention(query, key, value)  # (B, heads, N, dim / heads)
        return self.projection(taken.transpose(1, 2).flatten(2))


class ViT(nn.Module):
    """Vision transformer for (B, channels, side, side) inputs in [0, 1].

    Patches of 4x4, 6 blocks of 4 heads, learnt positions, and the mean of the tokens in place of a
    class token (one part fewer). With 10 classes 1,199,626 parameters at 28x28x1 and dim 128,
    2,693,194 at 32x32x3 and dim 192.

    torch has no second derivative of its fast attention; where one is needed, choose the plain one
    with ``torch.nn.attention.sdpa_kernel(SDPBackend.MATH)``.

    Args:
        num_classes: C.
        channels: of the images.
        side: height and width, a multiple of 4.
        dim: width of a token, a multiple of 4.

    Raises:
        UserError: a side or a width that does not divide.
    """

    def __init__(
        self, num_classes: int = 10, *, channels: int = 3, side: int = 32, dim: int = 192
    ) -> None:
        super().__init__()
        if side < PATCH or side % PATCH or dim < HEADS or dim % HEADS:
            raise UserError(
                f"side is {side} and dim {dim}; give multiples of {PATCH} and {HEADS}, such as 32 "
                "and 192"
            )
        self.patches = nn.Conv2d(channels, dim, PATCH, stride=PATCH)
        self.positions = nn.Parameter(torch.empty(1, (side // PATCH) ** 2, dim))
        nn.init.trunc_normal_(self.positions, std=0.02)
        self.blocks = nn.Sequential(*(Block(dim) for _ in range(DEPTH)))
        self.norm = nn.LayerNorm(dim)
        self.classifier = nn.Linear(dim, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Logits, shape (B, C)."""
        tokens = self.patches(x).flatten(2).transpose(1, 2)  # (B, N, dim)
        tokens = self.blocks(tokens + self.positions)
        return self.classifier(self.norm(tokens).mean(1))
