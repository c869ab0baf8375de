"""How much each baseline lowers the variance of the sampled policy gradient, on a real network.

    python benchmarks/variance.py [--write]

LeNet5 on MNIST after so many steps of cross-entropy, one batch of 128, the gradient of all its
parameters under 200 independent draws: the mean squared distance from the exact expectation, over
that of one draw without a baseline. The value baseline is the best that a critic could say, the
policy's expected reward of each image. Four draws cost four times one in actions alone, not in
passes through the network.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch
import torch.nn.functional as F
from measure import machine
from torch import Tensor

from robustpolicy.data import load_dataset, to_float
from robustpolicy.losses import policy_loss, rollout, rollout_loss
from robustpolicy.models import LeNet5

DRAWS = 200
STEPS = (0, 200, 800, 1800)
OPTIONS = {
    "none, 1 draw": (1, "none"),
    "mean, 1 draw": (1, "mean"),
    "value, 1 draw": (1, "value"),
    "none, 4 draws": (4, "none"),
    "mean, 4 draws": (4, "mean"),
    "group, 4 draws": (4, "group"),
    "value, 4 draws": (4, "value"),
}


def main() -> None:
    torch.set_num_threads(1)
    print(machine())
    dataset = load_dataset("mnist")
    images, labels = to_float(dataset.train_images), dataset.train_labels
    torch.manual_seed(0)
    model = LeNet5()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    order = torch.randperm(len(images)).repeat(4).split(128)
    rows = []
    for step in range(max(STEPS) + 1):
        if step in STEPS:
            rows.append(_row(step, model, images[:128], labels[:128]))
        optimizer.zero_grad()
        F.cross_entropy(model(images[order[step]]), labels[order[step]]).backward()
        optimizer.step()
    if "--write" in sys.argv[1:]:
        path = Path(__file__).parent.parent / "results" / "rl" / "variance.json"
        report = {"draws": DRAWS, "batch": 128, "machine": machine(), "rows": rows}
        path.write_text(json.dumps(report, indent=1) + "\n")


def _row(step: int, model: LeNet5, x: Tensor, y: Tensor) -> dict:
    logits = model(x)
    pi_y = logits.detach().softmax(1).gather(1, y[:, None])[:, 0]
    critic = 2 * pi_y - 1  # the expected reward, with reward and penalty 1
    exact = _gradient(policy_loss(logits, y, actions="expected").mean(), model)
    ratios = {}
    for name, (draws, baseline) in OPTIONS.items():
        generator, squares = torch.Generator().manual_seed(1), []
        for _ in range(DRAWS):
            taken = rollout(
                logits, y, draws=draws, generator=generator,
                baseline=critic if baseline == "value" else baseline,
            )  # fmt: skip
            gradient = _gradient(rollout_loss(logits, taken).mean(), model)
            squares.append((gradient - exact).square().sum().item())
        ratios[name] = sum(squares) / DRAWS
    base = ratios["none, 1 draw"]
    ratios = {name: round(value / base, 3) for name, value in ratios.items()}
    accuracy = (logits.argmax(1) == y).double().mean().item()
    print(f"after {step} steps, accuracy {100 * accuracy:.1f} % of the batch")
    for name, ratio in ratios.items():
        print(f"  {name:16} {ratio:.3f}")
    return {"steps": step, "accuracy": accuracy, "ratios": ratios}


def _gradient(loss: Tensor, model: LeNet5) -> Tensor:
    parts = torch.autograd.grad(loss, list(model.parameters()), retain_graph=True)
    return torch.cat([part.flatten() for part in parts])


if __name__ == "__main__":
    main()
