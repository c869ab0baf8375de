"""LeNet5 with ReLU and max-pooling (LeCun et al. 1998), the paper's MNIST model."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from robustpolicy.models.pooling import conv_pool_relu


class LeNet5(nn.Module):
    """LeNet5 for (B, 1, 28, 28) inputs in [0, 1]; 61,706 parameters with 10 classes."""

    def __init__(self, num_classes: int = 10) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 6, 5, padding=2)
        self.conv2 = nn.Conv2d(6, 16, 5)
        self.fc1 = nn.Linear(400, 120)
        self.fc2 = nn.Linear(120, 84)
        self.fc3 = nn.Linear(84, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Logits, shape (B, C)."""
        x = conv_pool_relu(self.conv1, x)  # (B, 6, 14, 14)
        x = conv_pool_relu(self.conv2, x)  # (B, 16, 5, 5)
        x = F.relu(self.fc1(x.flatten(1)))
        return self.fc3(F.relu(self.fc2(x)))
