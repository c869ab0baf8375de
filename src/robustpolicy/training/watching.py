"""What is measured after each epoch: accuracy, and accuracy under a short PGD."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from robustpolicy.attacks import PGD, Threat
from robustpolicy.data import Split, to_float
from robustpolicy.randomness import derive_seed
from robustpolicy.training.distributed import Group
from robustpolicy.training.recipe import Recipe, Watch


def accuracy_of(
    model: nn.Module, split: Split, batch_size: int = 1000, group: Group | None = None
) -> float:
    """Share of a split that a model classifies correctly, in eval mode; restores the mode.

    NaN where any output is not finite: such a model classifies nothing.

    Args:
        model: classifier of images in [0, 1].
        split: what to classify.
        batch_size: images at a time.
        group: processes that share the work.
    """
    group = group or Group()
    mine = group.rows(len(split))
    training = model.training
    model.eval()
    correct = torch.zeros((), dtype=torch.int64, device=split.labels.device)
    wild = torch.zeros((), dtype=torch.int64, device=split.labels.device)
    with torch.inference_mode():
        for first in range(mine.start, mine.stop, batch_size):
            part = slice(first, min(first + batch_size, mine.stop))
            logits = model(to_float(split.images[part]))
            wild += (~torch.isfinite(logits)).any()
            correct += (logits.argmax(1) == split.labels[part]).sum()
        group.add([correct, wild])
    model.train(training)
    return float("nan") if int(wild) else int(correct) / len(split)


def robust_accuracy_of(
    model: nn.Module, split: Split, recipe: Recipe, group: Group | None = None
) -> float | None:
    """Share of some watched samples that stand PGD; None where the recipe asks for none.

    The samples are drawn once, with the recipe's seed; an epoch is judged on the same ones.
    """
    watch = recipe.watch
    count = min(watch.watch_samples, len(split))
    if not count:
        return None
    group = group or Group()
    generator = torch.Generator().manual_seed(derive_seed(recipe.seed, "watch"))
    chosen = torch.randperm(len(split), generator=generator)[:count][group.rows(count)]
    robust = torch.zeros((), dtype=torch.int64, device=split.labels.device)
    if len(chosen):
        some = split.take(chosen)
        x, y = some.inputs(), some.labels
        epsilon = watch.watch_epsilon
        attack = PGD(watch.watch_steps, 2.5 * epsilon / watch.watch_steps)
        x_adv = attack(model, x, y, Threat(epsilon), seed=recipe.seed, indices=chosen)
        training = model.training
        model.eval()
        with torch.inference_mode():
            # What is wrong as it is counts as wrong, whatever the attack made of it.
            robust += ((model(x).argmax(1) == y) & (model(x_adv).argmax(1) == y)).sum()
        model.train(training)
    group.add([robust])
    return int(robust) / count


def score(record: dict[str, Any]) -> float:
    """What "best" means of an epoch: robust accuracy where it was measured, else accuracy."""
    return record.get("watched_robust_accuracy", record["watched_accuracy"])


def is_best(history: list[dict[str, Any]]) -> bool:
    """Whether the last epoch is better than each before."""
    *before, last = map(score, history)
    return all(last > value for value in before)


def is_over(history: list[dict[str, Any]], watch: Watch) -> bool:
    """Whether patience has run out: that many epochs without a better one."""
    if not watch.patience or not history:
        return False
    scores = [score(record) for record in history]
    return len(scores) - 1 - scores.index(max(scores)) >= watch.patience
