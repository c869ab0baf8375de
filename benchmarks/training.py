"""One MNIST epoch of LeNet5, ours against the usual PyTorch loop, in one process.

    python benchmarks/training.py [--threads N] [--rounds N] [--write]

The usual loop: a map-style Dataset that turns each image into a float tensor, a DataLoader with
shuffling, and .item() at every step for the running loss and accuracy. Both train the same
network from the same weights with the same batch size, loss and optimiser.
"""

from __future__ import annotations

import argparse
import copy

import numpy as np
import torch
import torch.nn.functional as F
from measure import machine, take_turns, verdict, write
from PIL import Image
from torch.utils.data import DataLoader, Dataset

from robustpolicy.data import Split, load_dataset
from robustpolicy.models import LeNet5
from robustpolicy.training import Monitor, get_recipe
from robustpolicy.training.signals import StopRequests
from robustpolicy.training.trainer import State, _train_epoch

BOUND = 1.5


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


def usual_epoch(model: torch.nn.Module, loader: DataLoader, optimizer: torch.optim.SGD) -> None:
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


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--write", action="store_true", help="keep the ratio in results/")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    dataset = load_dataset("mnist")
    print(machine())
    recipe = get_recipe("mnist-ce")
    split = Split(dataset.train_images, dataset.train_labels)

    state = State(recipe, torch.device("cpu"))
    theirs = LeNet5()
    theirs.load_state_dict(copy.deepcopy(state.model.state_dict()))
    arrays = dataset.train_images[:, 0].numpy(), dataset.train_labels.numpy()
    loader = DataLoader(Images(*arrays), batch_size=recipe.batch_size, shuffle=True)
    optimizer = torch.optim.SGD(theirs.parameters(), lr=recipe.optimizer.learning_rate)

    def ours() -> None:
        state.step = 0
        _train_epoch(state, split, None, StopRequests(), Monitor())

    timings = take_turns(
        {"ours": ours, "usual loop": lambda: usual_epoch(theirs, loader, optimizer)},
        options.rounds,
        1,
    )
    ratio = timings["usual loop"].ratio(timings["ours"])
    print(f"\none MNIST epoch, LeNet5, batch {recipe.batch_size}, {options.rounds} rounds")
    for name, timing in timings.items():
        print(f"  {name:12} {timing.median:6.2f} s")
    what = f"MNIST epoch of LeNet5, {options.threads} thread(s), speed over the usual loop's"
    write("training", [{"what": what, "ratio": round(ratio, 2), "aim": f"at least {BOUND:g}"}])
    print(f"  ours is x {ratio:.2f} as fast  {verdict(ratio, BOUND, at_most=False)}")


if __name__ == "__main__":
    main()
