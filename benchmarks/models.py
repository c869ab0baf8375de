"""The MNIST models that the attack benchmarks attack, trained at the first call."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from robustpolicy.data import load_dataset, to_float
from robustpolicy.evaluation import choose_samples
from robustpolicy.experiments.paper import get_experiment
from robustpolicy.training import Recipe, Run, get_recipe, train


def mnist_runs() -> dict[str, Run]:
    """LeNet5 with cross-entropy, in two stages, and adversarially trained, seed 0.

    The first two are those of `make mnist` and lie where it puts them.
    """
    rows = {row.key: row.recipe for row in get_experiment("mnist").rows}
    adversarial = get_recipe("mnist-at")
    return {
        "cross-entropy": _train(rows["ce"], "runs/mnist/ce-seed0"),
        "two-stage": _train(rows["policy"], "runs/mnist/policy-seed0"),
        "adversarial": _train(adversarial, f"runs/mnist-at-{adversarial.id}"),
    }


def _train(recipe: Recipe, path: str) -> Run:
    if not (Path(path) / "DONE").exists():
        print(f"training {path}, some minutes")
    return train(recipe, path, device="cpu")


def test_batch(run: Run, samples: int) -> tuple[Tensor, Tensor, Tensor]:
    """Random test images of a run's data set, their labels and their indices."""
    dataset = load_dataset(run.recipe.dataset)
    chosen = choose_samples(len(dataset.test_labels), samples)
    return to_float(dataset.test_images[chosen]), dataset.test_labels[chosen], chosen


def robust(model: nn.Module, x_adv: Tensor, y: Tensor) -> Tensor:
    """Which examples are classified correctly, bool, shape (N,)."""
    with torch.no_grad():
        return torch.cat([model(part) for part in x_adv.split(500)]).argmax(1) == y
