"""SmallCNN, the MNIST model of TRADES (Zhang et al. 2019); also for other small images."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn


class SmallCNN(nn.Module):
    """SmallCNN for (B, 1, 28, 28) inputs in [0, 1]; 312,202 parameters with 10 classes.

    For (B, 3, 32, 32), which is not TRADES', it has 427,978.

    Args:
        num_classes: C.
        channels: of the images.
        side: height and width, at least 16.
    """

    def __init__(self, num_classes: int = 10, *, channels: int = 1, side: int = 28) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, 32, 3)
        self.conv2 = nn.Conv2d(32, 32, 3)
        self.conv3 = nn.Conv2d(32, 64, 3)
        self.conv4 = nn.Conv2d(64, 64, 3)
        left = ((side - 4) // 2 - 4) // 2  # pixels: two convolutions take 4, pooling halves
        self.fc1 = nn.Linear(64 * left * left, 200)
        self.dropout = nn.Dropout(0.5)
        self.fc2 = nn.Linear(200, 200)
        self.fc3 = nn.Linear(200, num_classes)
        # As in the reference: He-initialised convolutions, a last layer that starts at zero.
        for conv in (self.conv1, self.conv2, self.conv3, self.conv4):
            nn.init.kaiming_normal_(conv.weight)
        nn.init.zeros_(self.fc3.weight)
        nn.init.zeros_(self.fc3.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Logits, shape (B, C)."""
        x = F.relu(self.conv2(F.relu(self.conv1(x))))
        x = F.max_pool2d(x, 2)  # (B, 32, 12, 12)
        x = F.relu(self.conv4(F.relu(self.conv3(x))))
        x = F.max_pool2d(x, 2)  # (B, 64, 4, 4)
        x = self.dropout(F.relu(self.fc1(x.flatten(1))))
        return self.fc3(F.relu(self.fc2(x)))
