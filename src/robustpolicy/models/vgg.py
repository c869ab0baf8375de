"""VGG13 with batch normalisation (Simonyan & Zisserman 2014), the paper's CIFAR-10 model."""

from __future__ import annotations

from torch import Tensor, nn

# Widths of the 3x3 convolutions; "M" halves the resolution. The head is a single linear layer:
# the paper does not state its own, and this one is usual on CIFAR-10.
LAYERS = (64, 64, "M", 128, 128, "M", 256, 256, "M", 512, 512, "M", 512, 512, "M")


class VGG13(nn.Module):
    """VGG13 for (B, 3, 32, 32) inputs in [0, 1]; 9,416,010 parameters with 10 classes.

    Args:
        num_classes: at least 2.
        width: of the convolutions, relative to the usual; a quarter has 1/16 of the arithmetic.
    """

    def __init__(self, num_classes: int = 10, width: float = 1.0) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        channels = 3
        for layer in LAYERS:
            if isinstance(layer, str):
                # Before the ReLU: the same function (both are monotone), a quarter of the work.
                layers.insert(-1, nn.MaxPool2d(2))
                continue
            outputs = round(layer * width)
            layers += [
                nn.Conv2d(channels, outputs, 3, padding=1),
                nn.BatchNorm2d(outputs),
                nn.ReLU(inplace=True),
            ]
            channels = outputs
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Linear(channels, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Logits, shape (B, C)."""
        return self.classifier(self.features(x).flatten(1))
