"""PGD-40 against torchattacks, Foolbox and ART in one process: the same examples, and the speed.

    python benchmarks/pgd.py [--samples N] [--rounds N] [--write]

Peers are pinned in benchmarks/requirements.txt and requirements-no-deps.txt; `make bench`
installs them. LeNet5 trained with cross-entropy on MNIST, eps .1, steps of .01, one thread.
"""

from __future__ import annotations

import argparse
import copy
import sys
from collections.abc import Callable
from importlib.metadata import version

import foolbox
import torch
import torchattacks
from art.attacks.evasion import ProjectedGradientDescentPyTorch
from art.estimators.classification import PyTorchClassifier
from measure import machine, take_turns, verdict, write
from models import mnist_runs, robust, test_batch
from torch import Tensor, nn

from robustpolicy import PGD, Threat

EPSILON, STEP, STEPS = 0.1, 0.01, 40
BOUND = 1.3
TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-9}
Call = Callable[[Tensor, Tensor], Tensor]


class FoolboxFrom(foolbox.attacks.LinfPGD):
    """Foolbox's PGD from a given start."""

    start: Tensor

    def get_random_start(self, x0, epsilon):
        """Not random: the start that was set."""
        return foolbox.attacks.base.ep.astensor(self.start)


def from_one_start(model: nn.Module, x: Tensor, y: Tensor) -> dict[str, Tensor]:
    """The last iterates of ours and of the peers whose start can be set."""
    torch.manual_seed(0)
    start = x + torch.empty_like(x).uniform_(-EPSILON, EPSILON)
    start = start.clamp(0, 1)
    ours = PGD(STEPS, STEP, early_exit=False, last=True)
    torch.manual_seed(0)  # torchattacks draws the same numbers
    theirs = torchattacks.PGD(model, eps=EPSILON, alpha=STEP, steps=STEPS)
    attack = FoolboxFrom(abs_stepsize=STEP, steps=STEPS)
    attack.start = start
    return {
        "ours": ours(model, x, y, Threat(EPSILON), start=start),
        "torchattacks": theirs(x, y),
        "foolbox": _foolbox(model, attack)(x, y),
    }


def compare(model: nn.Module, x: Tensor, y: Tensor, dtype: torch.dtype) -> dict[str, int]:
    """How many examples differ from ours, by peer.

    In float32 a gradient that is almost 0 can come out with either sign (torchattacks divides the
    loss by the batch, the others do not), and the sample's path forks; in float64 none does.
    """
    model = copy.deepcopy(model).to(dtype)
    found = from_one_start(model, x.to(dtype), y)
    far = {}
    for name in ("torchattacks", "foolbox"):
        distance = (found[name] - found["ours"]).flatten(1).abs().amax(1)
        flags = robust(model, found[name], y) == robust(model, found["ours"], y)
        far[name] = int((distance > TOLERANCE[dtype]).sum())
        print(
            f"{name} {version(name)}, same start, {dtype}: examples differ by at most "
            f"{distance.max():.1e}, by more than {TOLERANCE[dtype]:g} on {far[name]} of {len(y)}; "
            f"{int((~flags).sum())} flags differ"
        )
    return far


def _foolbox(model: nn.Module, attack: foolbox.attacks.LinfPGD) -> Call:
    wrapped = foolbox.PyTorchModel(model, bounds=(0, 1), device="cpu")
    return lambda x, y: attack(wrapped, x, y, epsilons=EPSILON)[1]


def _art(model: nn.Module, batch: int) -> Call:
    classifier = PyTorchClassifier(
        model, nn.CrossEntropyLoss(), (1, 28, 28), 10, clip_values=(0, 1), device_type="cpu"
    )
    attack = ProjectedGradientDescentPyTorch(
        classifier, eps=EPSILON, eps_step=STEP, max_iter=STEPS, num_random_init=1,
        batch_size=batch, verbose=False,
    )  # fmt: skip
    return lambda x, y: torch.from_numpy(attack.generate(x.numpy(), y.numpy()))


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--samples", type=int, default=500)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--write", action="store_true", help="keep the figures in results/")
    options = parser.parse_args()
    torch.set_num_threads(1)
    print(machine())
    run = mnist_runs()["cross-entropy"]
    model = run.load_model()
    x, y, _ = test_batch(run, options.samples)

    far = {dtype: compare(model, x, y, dtype) for dtype in TOLERANCE}

    # Ours runs as `robustpolicy evaluate` does it, channels last; the peers as their users do.
    # What that layout alone gives a peer is shown too.
    fast = copy.deepcopy(model).to(memory_format=torch.channels_last)
    threat = Threat(EPSILON)

    def peer(kind: str) -> Call:
        own = copy.deepcopy(model)
        if kind == "art":
            return _art(own, len(x))
        if kind == "foolbox":
            return _foolbox(own, foolbox.attacks.LinfPGD(abs_stepsize=STEP, steps=STEPS))
        return torchattacks.PGD(own, eps=EPSILON, alpha=STEP, steps=STEPS)

    calls: dict[str, Call] = {
        "ours": lambda x, y: PGD(STEPS, STEP)(fast, x, y, threat),
        "ours, none leaves": lambda x, y: PGD(STEPS, STEP, early_exit=False)(fast, x, y, threat),
        "torchattacks": peer("torchattacks"),
        "foolbox": peer("foolbox"),
        "art": peer("art"),
        "torchattacks, channels last": torchattacks.PGD(
            copy.deepcopy(fast), eps=EPSILON, alpha=STEP, steps=STEPS
        ),
    }
    timings = take_turns(
        {name: (lambda call=call: call(x, y)) for name, call in calls.items()}, options.rounds, 1
    )
    print(f"PGD-40, LeNet5, {len(y)} images, eps {EPSILON:g}, one thread, {options.rounds} rounds")
    for name, timing in timings.items():
        accuracy = 100 * float(robust(model, calls[name](x, y), y).float().mean())
        ratio = timing.ratio(timings["ours"])
        print(f"  {name:28} {timing.median:6.2f} s  x {ratio:.2f}  robust {accuracy:.1f} %")
    ratios = {n: timings[n].ratio(timings["ours"]) for n in ("torchattacks", "foolbox", "art")}
    fastest = min(ratios, key=lambda name: ratios[name])
    print(f"  against the fastest, {fastest}: {verdict(ratios[fastest], BOUND, at_most=False)}")
    package = {"art": "adversarial-robustness-toolbox"}
    peers = {f"{n} {version(package.get(n, n))}": round(r, 2) for n, r in ratios.items()}
    row = {
        "what": f"PGD-40, LeNet5, {len(y)} images: speed over the fastest of torchattacks, "
        "Foolbox, ART",
        "ratio": round(ratios[fastest], 2),
        "aim": f"at least {BOUND:g}",
        "peers": peers,
        "examples_that_differ_from_one_start": {str(dtype): n for dtype, n in far.items()},
    }
    write("pgd", [row])
    return 1 if any(far[torch.float64].values()) else 0


if __name__ == "__main__":
    sys.exit(main())
