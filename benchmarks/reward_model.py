"""MNIST with 1,000 labels: a teacher learns from them, a student from the teacher alone.

    python benchmarks/reward_model.py [--write]

The teacher: cross-entropy on the 1,000. The students: 8 epochs over the other 59,000 images, whose
labels they never see; the reward model in their place. One starts afresh in two stages (Eq. 12,
then greedy Eq. 4 once it agrees with the teacher on 80 % of 5,000 images), with soft and hard
rewards; one starts from a few epochs on the 1,000 and continues with expected Eq. 4. Clean accuracy
on all test images, three seeds.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from measure import machine
from torch import Tensor, nn

from robustpolicy import PolicyLoss, TwoStageLoss
from robustpolicy.data import load_dataset, to_float
from robustpolicy.models import LeNet5
from robustpolicy.training import RewardModel

SEEDS, EPOCHS, BATCH = 3, 8, 128


def main() -> None:
    torch.set_num_threads(1)
    print(machine())
    dataset = load_dataset("mnist")
    images, labels = to_float(dataset.train_images), dataset.train_labels
    test, truth = to_float(dataset.test_images), dataset.test_labels
    rows: dict[str, list[float]] = {}

    def note(name: str, model: nn.Module) -> None:
        accuracy = (_choices(model, test) == truth).double().mean().item()
        rows.setdefault(name, []).append(round(accuracy, 4))
        print(f"{name:36} {100 * accuracy:.2f} %", flush=True)

    for seed in range(SEEDS):
        torch.manual_seed(seed)
        order = torch.randperm(len(images))
        x, y, rest = images[order[:1000]], labels[order[:1000]], images[order[1000:]]

        def supervised(q: Tensor, _x: Tensor, chosen: Tensor, y: Tensor = y) -> Tensor:
            return F.cross_entropy(q, y[chosen])

        teacher, early = LeNet5(), LeNet5()
        _fit(teacher, x, supervised, epochs=60, batch=32)
        _fit(early, x, supervised, epochs=6, batch=32)
        note("teacher, 1,000 labels", teacher)
        note("the same, 6 epochs", early)
        for name, hard in (("soft", False), ("hard", True)):
            student, reward = LeNet5(), RewardModel(teacher, hard=hard)
            loss_fn = TwoStageLoss(1.5, 0.75, reward_fn=reward)
            for _ in range(EPOCHS):
                _fit(student, rest, lambda q, x, _, f=loss_fn: f(q, None, x))
                watched = rest[:5000]
                agree = _choices(student, watched) == _choices(teacher, watched)
                loss_fn.observe(agree.double().mean().item())
            note(f"afresh, two stages, {name}, stage {loss_fn.stage}", student)
        policy = PolicyLoss(1.5, actions="expected", reward_fn=RewardModel(teacher))
        _fit(early, rest, lambda q, x, _, f=policy: f(q, None, x), epochs=EPOCHS)
        note("from 6 epochs, expected, soft", early)
    if "--write" in sys.argv[1:]:
        path = Path(__file__).parent.parent / "results" / "rl" / "reward-model.json"
        path.write_text(json.dumps({"machine": machine(), "clean": rows}, indent=1) + "\n")


def _fit(
    model: nn.Module,
    images: Tensor,
    loss_of: Callable[[Tensor, Tensor, Tensor], Tensor],
    epochs: int = 1,
    batch: int = BATCH,
) -> None:
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(epochs):
        for chosen in torch.randperm(len(images)).split(batch):
            optimizer.zero_grad()
            loss_of(model(images[chosen]), images[chosen], chosen).backward()
            optimizer.step()


def _choices(model: nn.Module, images: Tensor) -> Tensor:
    with torch.no_grad():
        return torch.cat([model(part).argmax(1) for part in images.split(1000)])


if __name__ == "__main__":
    main()
