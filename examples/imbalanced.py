"""Rare classes: do rewards and penalties per class help? MNIST with three digits cut to 1 %.

    python examples/imbalanced.py --data-dir FOLDER --epochs 10

LeNet5 in a plain PyTorch loop, under cross-entropy and under the two-stage loss, each with all
samples alike and with every class weighted by its inverse frequency: in the two stages as rewards
per class, or as rewards and penalties. Ten epochs take about ten minutes of one core;
docs/imbalanced.md has what twenty printed.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from robustpolicy import TwoStageLoss, UserError
from robustpolicy.data import load_dataset, to_float
from robustpolicy.models import LeNet5

CLASSES = 10
RARE = (2, 5, 8)
SHARE = 0.01

#: name -> the loss with these weights, one a class; all ones where the name has no "weighted".
LOSSES: dict[str, Callable[[Tensor], nn.Module]] = {
    "cross-entropy": lambda w: nn.CrossEntropyLoss(w, reduction="none"),
    "cross-entropy, weighted": lambda w: nn.CrossEntropyLoss(w, reduction="none"),
    "two stages": lambda w: TwoStageLoss(1.5 * w, 0.75 * w, w, reduction="none"),
    "two stages, weighted rewards": lambda w: TwoStageLoss(1.5, 0.75, w, reduction="none"),
    "two stages, weighted": lambda w: TwoStageLoss(1.5 * w, 0.75 * w, w, reduction="none"),
}


def cut(labels: Tensor, seed: int) -> Tensor:
    """Indices of an imbalanced training set: 1 % of the rare classes, drawn at random."""
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))
    keep = torch.ones(len(labels), dtype=torch.bool)
    for rare in RARE:
        of_class = order[labels[order] == rare]
        keep[of_class[max(1, round(SHARE * len(of_class))) :]] = False
    return keep.nonzero()[:, 0]


def inverse_frequency(labels: Tensor) -> Tensor:
    """Weight of each class, shape (C,); 1 on average over the samples."""
    counts = labels.bincount(minlength=CLASSES)
    return len(labels) / (CLASSES * counts.clamp(min=1))


def train(
    loss_fn: nn.Module, weights: Tensor, images: Tensor, labels: Tensor, epochs: int, seed: int
) -> LeNet5:
    """The usual loop; a two-stage loss is told the accuracy, weighted like the loss."""
    torch.manual_seed(seed)
    model = LeNet5().to(memory_format=torch.channels_last)  # faster, the same numbers
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(epochs):
        correct = torch.zeros(())
        for batch in torch.randperm(len(labels)).split(128):
            logits, y = model(to_float(images[batch])), labels[batch]
            # Over the batch's weights, as PyTorch's own weighted mean: a plain mean would make one
            # sample of a rare class a step of seventy times the length.
            loss = loss_fn(logits, y).sum() / weights[y].sum()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            correct += ((logits.argmax(1) == y) * weights[y]).sum()
        if isinstance(loss_fn, TwoStageLoss):
            # Weighted by inverse frequency this is the mean recall: rare classes count in full.
            loss_fn.observe(min(1.0, float(correct / weights[labels].sum())))
    return model


def recalls(model: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    """Share of each class's test images that are classified correctly, shape (C,)."""
    with torch.inference_mode():
        right = model(to_float(images)).argmax(1) == labels
    return torch.stack([right[labels == c].float().mean() for c in range(CLASSES)])


def main(arguments: list[str] | None = None) -> dict[str, Tensor]:
    """Train, print a table, and return the recalls of each loss, shape (seeds, C)."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data-dir", type=Path, action="append", default=[], help="has MNIST")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args(arguments)
    if options.epochs < 1 or options.seeds < 1:
        parser.error("--epochs and --seeds must be at least 1")
    torch.set_num_threads(1)  # so small a network is fastest with one
    data = load_dataset("mnist", options.data_dir)
    rare = torch.tensor(RARE)
    common = torch.tensor([c for c in range(CLASSES) if c not in RARE])
    found: dict[str, Tensor] = {}
    print(f"{'loss':<30}{'worst rare':>18}{'rare':>18}{'common':>18}{'all':>18}")
    for name, build in LOSSES.items():
        rows = []
        for seed in range(options.seeds):
            chosen = cut(data.train_labels, seed)
            images, labels = data.train_images[chosen], data.train_labels[chosen]
            weights = inverse_frequency(labels) if "weighted" in name else torch.ones(CLASSES)
            model = train(build(weights), weights, images, labels, options.epochs, seed)
            rows.append(recalls(model, data.test_images, data.test_labels))
        found[name] = table = torch.stack(rows)
        columns = (table[:, rare].amin(1), table[:, rare].mean(1), table[:, common].mean(1),
                   table.mean(1))  # fmt: skip
        print(f"{name:<30}" + "".join(f"{spread(column):>18}" for column in columns), flush=True)
    return found


def spread(values: Tensor) -> str:
    """Mean, and least to greatest, in percent."""
    mean, low, high = (100 * v.item() for v in (values.mean(), values.amin(), values.amax()))
    return f"{mean:.1f} ({low:.1f}-{high:.1f})"


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        raise SystemExit(f"error: {error}") from None
