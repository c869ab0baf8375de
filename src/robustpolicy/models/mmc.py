"""Max-Mahalanobis centres (Pang et al. 2018, 2020): a last layer whose classes lie on a simplex."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from robustpolicy.errors import UserError


def max_mahalanobis_centers(classes: int, dim: int) -> Tensor:
    r"""Unit vectors as far from each other as they can be, :math:`\mu_i \cdot \mu_j = -1/(C-1)`.

    The recursion of Pang et al. 2018 (Algorithm 1): each centre takes from the axes of the former
    ones what the inner products ask for, and gives the rest of its length to the next axis.

    Args:
        classes: C >= 2.
        dim: of the space, at least C - 1.

    Returns:
        The centres, float64, shape (C, dim).

    Raises:
        UserError: fewer than 2 classes, or a space with no room for that many.

    Example:
        >>> max_mahalanobis_centers(2, 1).tolist()
        [[1.0], [-1.0]]
    """
    if classes < 2 or dim < classes - 1:
        raise UserError(
            f"{classes} centres in {dim} dimensions; give at least 2 classes and "
            f"{max(classes - 1, 1)} dimensions"
        )
    centers = torch.zeros(classes, dim, dtype=torch.float64)
    for i in range(classes):
        for j in range(i):
            known = float(centers[i] @ centers[j])
            centers[i, j] = -(1 / (classes - 1) + known) / centers[j, j]
        if i < classes - 1:  # nothing is left for the last, but for rounding
            centers[i, i] = math.sqrt(1 - float(centers[i] @ centers[i]))
    return centers


class MaxMahalanobis(nn.Module):
    r"""Logits :math:`q_k = -\|z - s \mu_k\|^2` from features z; nothing in it is learnt.

    It stands behind a network with ``dim`` outputs. The centres lie :math:`s \sqrt{2C/(C-1)}` from
    each other, so at scale 10 and with 10 classes a feature at its centre has logits 0 and -222:
    cross-entropy's gradient there is 0 in float32, and attacks that raise it say little.

    Args:
        classes: C.
        dim: size of the features, at least C - 1.
        scale: s, the length of the centres.

    Raises:
        UserError: too few dimensions, or a scale that is not positive.

    Reference: Pang et al., *Rethinking Softmax Cross-Entropy Loss for Adversarial Robustness*
    (2020), Section 4.
    """

    centers: Tensor

    def __init__(self, classes: int, dim: int = 256, scale: float = 10.0) -> None:
        super().__init__()
        if not 0 < scale < math.inf:
            raise UserError(f"scale is {scale:g}; give a number > 0, such as 10")
        centers = scale * max_mahalanobis_centers(classes, dim)
        # Constants of the recipe, not learnt state: they stay out of the saved weights.
        self.register_buffer("centers", centers.float(), persistent=False)

    def forward(self, features: Tensor) -> Tensor:
        """Logits, shape (B, C), from features, shape (B, dim)."""
        # Differences first: |z|^2 - 2 z mu + |mu|^2 would cancel, and be bfloat16 under autocast.
        return -(features[:, None] - self.centers).square().sum(2)
