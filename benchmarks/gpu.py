"""Training at the paper's scale on one GPU: arithmetic achieved, and ratios to the usual loops.

    python benchmarks/gpu.py [--device cuda] [--write]

For VGG13 (cross-entropy step) and ResNet-18 (TRADES step): time of a step as this package takes it
(bfloat16 with float32 weights, channels-last, captured), TFLOP/s, its share of the bfloat16 matrix
product peak measured on this card, and the ratio to a plain loop in float32 on the same card, fed
by a DataLoader with a transform for each sample. With --device cpu it runs small, to see that it
runs; those figures mean nothing.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F
from measure import machine, verdict, write
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torch.utils.flop_counter import FlopCounterMode

from robustpolicy.data import Split, load_dataset, to_float
from robustpolicy.models import build_model
from robustpolicy.training import Recipe, get_recipe
from robustpolicy.training.distributed import Group
from robustpolicy.training.state import State
from robustpolicy.training.step import CapturedStep, train_step

#: Least ratios over the usual loops.
BOUNDS = {"cifar10-ce": 8.0, "cifar10-trades": 4.0}


class Images(Dataset):
    """CIFAR-10 as people hold it, cropped and flipped sample by sample."""

    def __init__(self, split: Split) -> None:
        self.images, self.labels = split.images, split.labels

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        image = F.pad(self.images[index].float().div(255), (4,) * 4)
        top, left = torch.randint(9, (2,)).tolist()
        image = image[:, top : top + 32, left : left + 32]
        return (image.flip(2) if torch.rand(()) < 0.5 else image), int(self.labels[index])


def seconds(call: Callable[[], object], device: torch.device, repeats: int) -> float:
    """Median seconds of a call, after three that are not counted."""
    taken = []
    for number in range(repeats + 3):
        _wait(device)
        begun = time.perf_counter()
        call()
        _wait(device)
        if number >= 3:
            taken.append(time.perf_counter() - begun)
    return sorted(taken)[len(taken) // 2]


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def peak(device: torch.device) -> float:
    """FLOP/s of a large bfloat16 matrix product."""
    n = 8192 if device.type == "cuda" else 512
    a, b = (torch.randn(n, n, device=device, dtype=torch.bfloat16) for _ in range(2))
    return 2 * n**3 / seconds(lambda: a @ b, device, 20)


def forward_flops(model: nn.Module, x: Tensor) -> int:
    """Floating-point operations of convolutions and matrix products in a forward pass."""
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(x)
    return counter.get_total_flops()


def usual_step(model: nn.Module, optimizer: torch.optim.SGD, x: Tensor, y: Tensor) -> float:
    optimizer.zero_grad()
    loss = F.cross_entropy(model(x), y)
    loss.backward()
    optimizer.step()
    return loss.item()


def usual_trades_step(model: nn.Module, optimizer: torch.optim.SGD, x: Tensor, y: Tensor) -> float:
    """As the loops that people run: float32, eager, three passes after the attack."""
    model.eval()
    x_adv = x + 0.001 * torch.randn_like(x)
    for _ in range(10):
        x_adv.requires_grad_()
        gap = F.kl_div(model(x_adv).log_softmax(1), model(x).softmax(1), reduction="sum")
        (slope,) = torch.autograd.grad(gap, x_adv)
        x_adv = x_adv.detach() + 0.007 * slope.sign()
        x_adv = torch.minimum(torch.maximum(x_adv, x - 0.031), x + 0.031).clamp(0, 1)
    model.train()
    optimizer.zero_grad()
    natural = F.cross_entropy(model(x), y)
    log_q = model(x_adv.detach()).log_softmax(1)
    robust = F.kl_div(log_q, model(x).softmax(1), reduction="batchmean")
    (natural + 6 * robust).backward()
    optimizer.step()
    return natural.item()


def measure(name: str, split: Split, device: torch.device, top: float, repeats: int) -> dict:
    """Compare the step of a recipe with the usual loop's; prints and returns a row."""
    recipe: Recipe = get_recipe(name)
    cuda = device.type == "cuda"
    batch = recipe.batch_size if cuda else 4
    state = State(recipe, device, "bfloat16" if cuda else "float32")
    state.model.train()
    x, y = to_float(split.images[:batch].to(device)), split.labels[:batch].to(device)
    # Forward passes that a step is worth: a training pass is three, an input gradient two. TRADES:
    # the clean output, ten steps of the attack, and two training passes.
    passes = 1 + 10 * 2 + 2 * 3 if "trades" in name else 3
    work = passes * forward_flops(state.model, x)
    captured = CapturedStep(state) if cuda else None

    def ours() -> None:
        if captured is not None:
            captured(x, y)
        else:
            train_step(state, x, y, batch, Group())

    model = build_model(recipe.model).to(device).train()
    sgd = torch.optim.SGD(model.parameters(), lr=0.01, momentum=recipe.optimizer.momentum)
    step = usual_trades_step if "trades" in name else usual_step
    plain = x.contiguous()
    loader = iter(DataLoader(Images(split), batch_size=batch, shuffle=True, num_workers=0))

    def usual() -> None:
        images, labels = next(loader)
        step(model, sgd, images.to(device), labels.to(device))

    own, theirs = seconds(ours, device, repeats), seconds(usual, device, repeats)
    eager = seconds(lambda: step(model, sgd, plain, y), device, repeats)
    rate, ratio = work / own, theirs / own
    print(f"\n{name}, batch {batch}: {work / batch / 1e9:.2f} GFLOP an image")
    print(
        f"  ours         {1e3 * own:8.2f} ms  {rate / 1e12:7.1f} TFLOP/s, {rate / top:.1%} of peak"
    )
    print(f"  plain step   {1e3 * eager:8.2f} ms  x {eager / own:.2f}")
    print(f"  usual loop   {1e3 * theirs:8.2f} ms  x {ratio:.2f}", end="  ")
    print(verdict(ratio, BOUNDS[name], at_most=False))
    return {
        "what": f"{name} step, batch {batch}: speed over the usual loop's",
        "ratio": round(ratio, 2),
        "aim": f"at least {BOUNDS[name]:g}",
        "of_peak": round(rate / top, 3),
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--repeats", type=int, default=30)
    parser.add_argument("--write", action="store_true", help="keep the ratios in results/")
    options = parser.parse_args()
    device = torch.device(options.device)
    dataset = load_dataset("cifar10")
    split = Split(dataset.train_images, dataset.train_labels)
    card = torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
    top = peak(device)
    print(f"{machine()}; {card}, bfloat16 matrix products at {top / 1e12:.1f} TFLOP/s")
    rows = [measure(name, split, device, top, options.repeats) for name in BOUNDS]
    if device.type == "cuda":
        write("gpu", rows)


if __name__ == "__main__":
    main()
