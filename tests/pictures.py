"""A model and images of the user's own: code, and real digits written as files."""

from PIL import Image

NAMES = ("zero", "one", "two")

#: Written as mine.py; the digits make any of its models learn in seconds.
CODE = """
import torch
from torch import nn

def make(num_classes):
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, 2, 1), nn.ReLU(), nn.Flatten(), nn.Linear(784, num_classes))

class View(nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3, 2, 1)
        self.linear = nn.Linear(784, num_classes)

    def forward(self, x):
        return self.linear(self.conv(x).relu().view(-1, 784))

class Both(nn.Linear):
    def __init__(self, num_classes):
        super().__init__(784, num_classes)

    def forward(self, x):
        logits = super().forward(x.flatten(1))
        return (logits, logits) if self.training else logits

class Breaks(Both):
    def forward(self, x):
        return x.image

def ten():
    return nn.Sequential(nn.Flatten(), nn.Linear(784, 10))

def nothing(num_classes):
    return nn.Flatten()

def normalised(num_classes):
    return nn.Sequential(
        nn.Flatten(), nn.Linear(784, 8), nn.BatchNorm1d(8), nn.Linear(8, num_classes))
"""


def write_pictures(folder, digits, per_class=20):
    """FOLDER/CLASS/*.png, three classes of scikit-learn's digits; returns file -> pixels."""
    written = {}
    for label, name in enumerate(NAMES):
        (folder / name).mkdir(parents=True)
        images = digits.train_images[digits.train_labels == label][:per_class]
        for number, image in enumerate(images):
            path = folder / name / f"{number}.png"
            Image.fromarray(image[0].numpy()).save(path)
            written[path] = image
    return written
