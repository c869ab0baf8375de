"""LeNet5 members of the lambda grid on MNIST: trained as one against one after another.

    python benchmarks/fused.py [--device cuda] [--members 147] [--epochs N] [--write]

Fused training is for a GPU. On a CPU, with few members and images, this shows that the results are
equal, and that fusing is slower there. One after another is `robustpolicy train`'s own loop, timed
on --alone members and scaled to all, step by step and, on a GPU, as a captured graph as well. All
train from data on the device, in the same precision, and write nothing.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
from collections.abc import Callable

import torch
from measure import Timing, machine, take_turns, verdict, write
from torch.utils.flop_counter import FlopCounterMode

from robustpolicy.data import Split, load_dataset
from robustpolicy.training import Monitor, Recipe, get_recipe
from robustpolicy.training.distributed import Group
from robustpolicy.training.environment import Execution, describe_environment
from robustpolicy.training.fused.pack import Pack
from robustpolicy.training.recipe import TwoStage
from robustpolicy.training.signals import StopRequests
from robustpolicy.training.state import State
from robustpolicy.training.step import CapturedStep
from robustpolicy.training.trainer import _Loop

AIM = 20
LAMBDAS = (0.1, 0.25, 0.5, 0.75, 1.0, 1.25, 1.5)
STAGES = {1: "stage 1, sampled", 2: "stage 2, greedy"}


def grid(members: int) -> list[Recipe]:
    """The first members of the paper's grid, 49 penalties a seed."""
    cells = itertools.product(range(members), LAMBDAS, LAMBDAS)
    return [
        dataclasses.replace(
            get_recipe("mnist-policy"), seed=seed, loss=TwoStage(second, warmup_penalty=first)
        )
        for seed, first, second in itertools.islice(cells, members)
    ]


class Alone:
    """Members that train one after another.

    Args:
        states: of the members.
        split: what they train on.
        captured: whether to replay steps as a CUDA graph, as `train` does by default there.
    """

    def __init__(self, states: list[State], split: Split, *, captured: bool = False) -> None:
        self.states = states
        self._loops = []
        for state in states:
            loop = _Loop(None, state, split, None, Group(), StopRequests(), Monitor())  # type: ignore[arg-type]
            if captured:
                step = CapturedStep(state)
                loop.take = lambda images, labels, total, step=step: step(images, labels)
            self._loops.append(loop)

    def epoch(self) -> None:
        """Train each member an epoch."""
        for state, loop in zip(self.states, self._loops, strict=True):
            state.step = 0
            loop.epoch()
        wait(self.states[0].device)


class Fused:
    """Members that train as one."""

    def __init__(self, states: list[State], split: Split, *, row_convolutions: bool = True) -> None:
        self.states = states
        self._pack = Pack(states, split, row_convolutions=row_convolutions)

    def epoch(self) -> None:
        """Train all members an epoch."""
        self._pack.begin_epoch()
        while self._pack.step < self._pack.steps:
            self._pack.train_step()
        wait(self.states[0].device)


def wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


def flops_of(state: State, split: Split) -> float:
    """Floating-point operations of a training step, an image."""
    images = split.inputs()[:128]
    with FlopCounterMode(display=False) as counter:
        state.model(images).sum().backward()
    state.optimizer.zero_grad(set_to_none=True)
    return counter.get_total_flops() / len(images)


def matmul_rate(execution: Execution) -> float:
    """Operations a second of a large matrix product in the precision of the training."""
    size = 8192 if execution.device.type == "cuda" else 1024
    dtype = torch.bfloat16 if execution.precision == "bfloat16" else torch.float32
    a = torch.randn(size, size, device=execution.device, dtype=dtype)

    def product() -> None:
        for _ in range(5):
            a @ a
        wait(execution.device)

    return 5 * 2 * size**3 / take_turns({"product": product}, 3, 1)["product"].median


def distance(ours: list[State], theirs: list[State]) -> float:
    """How far the weights of the same members are apart at most."""
    return max(
        float((a - b).detach().abs().max())
        for one, other in zip(ours, theirs, strict=False)
        for a, b in zip(one.model.parameters(), other.model.parameters(), strict=True)
    )


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--device", default="auto")
    parser.add_argument("--precision", default="auto", help="bfloat16 with CUDA, else float32")
    parser.add_argument("--members", type=int, help="147 on a GPU, 8 on a CPU")
    parser.add_argument("--images", type=int, help="60,000 on a GPU, 3,000 on a CPU")
    parser.add_argument("--alone", type=int, default=3, help="members timed one after another")
    parser.add_argument("--epochs", type=int, default=1, help="epochs in each timing")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--write", action="store_true", help="keep the ratios in results/")
    options = parser.parse_args()
    execution = Execution.choose(options.device, options.precision)
    device, gpu = execution.device, execution.device.type == "cuda"
    members = options.members or (147 if gpu else 8)
    images = options.images or (60_000 if gpu else 3_000)
    if not gpu:
        torch.set_num_threads(1)
    name = describe_environment(device)["device"]
    print(machine())
    print(f"device: {name}, {execution.precision}")

    dataset = load_dataset("mnist")
    split = Split(dataset.train_images[:images], dataset.train_labels[:images]).to(device)
    recipes = grid(members)
    few = recipes[: options.alone]

    def fresh(chosen: list[Recipe]) -> list[State]:
        return [State(recipe, device, execution.precision) for recipe in chosen]

    base = "one after another"
    candidates: dict[str, Alone | Fused] = {
        base: Alone(fresh(few), split),
        "fused": Fused(fresh(recipes), split),
        "fused, grouped convolutions": Fused(fresh(recipes), split, row_convolutions=False),
    }
    if gpu:
        candidates["one after another, captured"] = Alone(fresh(few), split, captured=True)
    flops, rate = flops_of(fresh(few)[0], split), matmul_rate(execution)
    print(f"{flops / 1e6:.2f} MFLOP an image; a large matrix product: {rate / 1e12:.3f} TFLOP/s")
    for candidate in candidates.values():
        candidate.epoch()
    for label, candidate in candidates.items():
        if label != base:
            far = distance(candidates[base].states, candidate.states)
            print(f"weights after an epoch, {label} against {base}: {far:.1e} apart at most")

    rows = []
    for stage, text in STAGES.items():
        calls: dict[str, Callable[[], object]] = {}
        for label, candidate in candidates.items():
            for state in candidate.states:
                state.loss.stage = stage
            calls[label] = candidate.epoch
        timings = take_turns(calls, options.rounds, options.epochs)
        print(
            f"\n{text}: {members} LeNet5, batch 128, an epoch of {images} images, median of "
            f"{options.rounds} rounds"
        )
        for label, timing in timings.items():
            trained = len(candidates[label].states)
            timings[label] = Timing(tuple(s * members / trained for s in timing.seconds))
            speed = members * images * flops / timings[label].median
            scaled = f", scaled from {trained}" if trained < members else ""
            ratio = timings[base].ratio(timings[label])
            print(
                f"  {label:28} {timings[label].median:8.2f} s  x {ratio:5.2f}  "
                f"{speed / 1e12:.3f} TFLOP/s, {speed / rate:.1%} of the large product's{scaled}"
            )
        ratio = timings[base].ratio(timings["fused"])
        aim = verdict(ratio, AIM, at_most=False) if gpu else "(below 1 is expected on a CPU)"
        print(f"  fused is x {ratio:.2f} as fast as {base}  {aim}")
        what = f"{members} LeNet5 as one on {name}, {text}: speed over one after another"
        row = {"what": what, "ratio": round(ratio, 2), "aim": f"at least {AIM} on a GPU"}
        rows.append(row)
    if gpu:
        print(f"\npeak memory {torch.cuda.max_memory_allocated() / 2**30:.1f} GiB, for all of it")
    write("fused", rows)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
