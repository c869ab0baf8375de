"""An MNIST epoch of LeNet5: ours, and the usual PyTorch loop's.

The usual loop: a map-style Dataset that turns each image into a float tensor, a DataLoader with
shuffling, and .item() at every step for the running loss and accuracy. Both train from the same
weights with the same batch size, loss and optimiser.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from steps import TextbookLeNet5
from torch.utils.data import DataLoader, Dataset

from robustpolicy.data import Split, load_dataset
from robustpolicy.memory import keep_freed_memory
from robustpolicy.training import Monitor, get_recipe
from robustpolicy.training.distributed import Group
from robustpolicy.training.signals import StopRequests
from robustpolicy.training.state import State
from robustpolicy.training.trainer import _Loop

RECIPE = "mnist-ce"


class Images(Dataset):
    """MNIST as people hold it: arrays, and a transform for each sample."""

    def __init__(self, images: np.ndarray, labels: np.ndarray) -> None:
        self.images, self.labels = images, labels

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        # As torchvision does it: a PIL image of each sample, then ToTensor.
        picture = Image.fromarray(self.images[index])
        array = np.array(picture, copy=True)
        image = torch.from_numpy(array).view(28, 28, 1).permute(2, 0, 1).contiguous()
        return image.to(torch.get_default_dtype()).div(255), int(self.labels[index])


def our_epoch(threads: int) -> Callable[[], object]:
    """The hot loop of `robustpolicy train`."""
    torch.set_num_threads(threads)
    keep_freed_memory()
    dataset = load_dataset("mnist")
    split = Split(dataset.train_images, dataset.train_labels)
    state = State(get_recipe(RECIPE), torch.device("cpu"))
    loop = _Loop(None, state, split, None, Group(), StopRequests(), Monitor())  # type: ignore[arg-type]

    def epoch() -> None:
        state.step = 0
        loop.epoch()

    return epoch


def usual_epoch(threads: int) -> Callable[[], object]:
    """The loop of most tutorials."""
    torch.set_num_threads(threads)
    recipe, dataset = get_recipe(RECIPE), load_dataset("mnist")
    model = TextbookLeNet5()
    model.load_state_dict(State(recipe, torch.device("cpu")).model.state_dict())
    arrays = dataset.train_images[:, 0].numpy(), dataset.train_labels.numpy()
    loader = DataLoader(Images(*arrays), batch_size=recipe.batch_size, shuffle=True)
    optimizer = torch.optim.SGD(model.parameters(), lr=recipe.optimizer.learning_rate)

    def epoch() -> None:
        model.train()
        total, correct, seen = 0.0, 0, 0
        for images, labels in loader:
            optimizer.zero_grad()
            logits = model(images)
            loss = F.cross_entropy(logits, labels)
            loss.backward()
            optimizer.step()
            total += loss.item() * len(labels)
            correct += (logits.argmax(1) == labels).sum().item()
            seen += len(labels)
        assert seen == 60_000
        assert np.isfinite(total)

    return epoch
