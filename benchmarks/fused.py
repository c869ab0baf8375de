"""LeNet5 members of the lambda grid on MNIST: trained as one against one after another.

    python benchmarks/fused.py [--device cuda] [--members 147] [--epochs N] [--write]

Fused training is for a GPU. On a CPU, with few members and images, this shows that the results are
equal, and that fusing is slower there. One after another is `robustpolicy train`'s own loop, timed
on --alone members and scaled to all; both sides train from data on the device, without writing.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools

import torch
from measure import Timing, machine, take_turns, verdict, write
from torch.utils.flop_counter import FlopCounterMode

from robustpolicy.data import Split, load_dataset
from robustpolicy.training import Monitor, Recipe, get_recipe
from robustpolicy.training.environment import describe_environment, resolve_device
from robustpolicy.training.fused.pack import Pack
from robustpolicy.training.recipe import TwoStage
from robustpolicy.training.signals import StopRequests
from robustpolicy.training.trainer import State, _train_epoch

AIM = 20
LAMBDAS = (0.1, 0.25, 0.5, 0.75, 1.0, 1.25, 1.5)


def grid(members: int) -> list[Recipe]:
    """The first members of the paper's grid, 49 penalties a seed."""
    cells = itertools.product(range(members), LAMBDAS, LAMBDAS)
    return [
        dataclasses.replace(
            get_recipe("mnist-policy"), seed=seed, loss=TwoStage(second, warmup_penalty=first)
        )
        for seed, first, second in itertools.islice(cells, members)
    ]


def wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


def train_alone(states: list[State], split: Split) -> None:
    for state in states:
        state.step = 0
        _train_epoch(state, split, None, StopRequests(), Monitor())  # type: ignore[arg-type]
    wait(states[0].device)


def train_pack(pack: Pack) -> None:
    pack.begin_epoch()
    while pack.step < pack.steps:
        pack.train_step()
    wait(pack.states[0].device)


def flops_of(state: State, split: Split) -> float:
    """Floating-point operations of a training step, an image."""
    images = split.inputs()[:128]
    with FlopCounterMode(display=False) as counter:
        state.model(images).sum().backward()
    state.optimizer.zero_grad(set_to_none=True)
    return counter.get_total_flops() / len(images)


def matmul_rate(device: torch.device, size: int) -> float:
    """Operations a second of a large float32 matrix product, in the precision that is set."""
    a = torch.randn(size, size, device=device)

    def product() -> None:
        for _ in range(5):
            a @ a
        wait(device)

    return 5 * 2 * size**3 / take_turns({"product": product}, 3, 1)["product"].median


def distance(state: State, other: State) -> float:
    pairs = zip(state.model.parameters(), other.model.parameters(), strict=True)
    return max(float((a - b).detach().abs().max()) for a, b in pairs)


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--device", default="auto")
    parser.add_argument("--members", type=int, help="147 on a GPU, 8 on a CPU")
    parser.add_argument("--images", type=int, help="60,000 on a GPU, 3,000 on a CPU")
    parser.add_argument("--alone", type=int, default=3, help="members timed one after another")
    parser.add_argument("--epochs", type=int, default=1, help="epochs in each timing")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--tf32", action="store_true", help="let matrix products round to TF32")
    parser.add_argument("--write", action="store_true", help="keep the ratios in results/")
    options = parser.parse_args()
    device = resolve_device(options.device)
    gpu = device.type == "cuda"
    members = options.members or (147 if gpu else 8)
    alone = min(options.alone, members)
    if options.tf32:
        torch.set_float32_matmul_precision("high")
    if not gpu:
        torch.set_num_threads(1)
    print(machine())
    print(f"device: {describe_environment(device)['device']}")

    dataset = load_dataset("mnist")
    images = options.images or (60_000 if gpu else 3_000)
    split = Split(dataset.train_images[:images], dataset.train_labels[:images]).to(device)
    recipes = grid(members)
    singles = [State(recipe, device) for recipe in recipes[:alone]]
    pack = Pack([State(recipe, device) for recipe in recipes], split)
    grouped = Pack([State(recipe, device) for recipe in recipes], split, row_convolutions=False)
    flops = flops_of(singles[0], split)
    rate = matmul_rate(device, 8192 if gpu else 1024)

    train_alone(singles, split)
    for candidate in (pack, grouped):
        train_pack(candidate)
    for name, candidate in (("matrix products", pack), ("grouped convolutions", grouped)):
        far = max(distance(a, b) for a, b in zip(singles, candidate.states, strict=False))
        print(f"weights after an epoch, fused by {name} against alone: differ by {far:.1e} at most")

    rows = []
    for stage, text in ((1, "stage 1, sampled"), (2, "stage 2, greedy")):
        for state in (*singles, *pack.states, *grouped.states):
            state.loss.stage = stage
        timings = take_turns(
            {
                "one after another": lambda: train_alone(singles, split),
                "fused": lambda: train_pack(pack),
                "fused, grouped convolutions": lambda: train_pack(grouped),
            },
            options.rounds,
            options.epochs,
        )
        sequential = Timing(
            tuple(s * members / alone for s in timings["one after another"].seconds)
        )
        print(
            f"\n{text}: {members} LeNet5, batch 128, an epoch of {images} images, median of "
            f"{options.rounds} rounds; {flops / 1e6:.2f} MFLOP an image"
        )
        for name, timing in {**timings, "one after another": sequential}.items():
            done = members * images * flops / timing.median
            scaled = f", scaled from {alone}" if timing is sequential else ""
            print(
                f"  {name:28} {timing.median:8.2f} s  {done / 1e12:.3f} TFLOP/s, "
                f"{done / rate:.1%} of a large product's rate{scaled}"
            )
        ratio = sequential.ratio(timings["fused"])
        other = sequential.ratio(timings["fused, grouped convolutions"])
        aim = verdict(ratio, AIM, at_most=False) if gpu else "(below 1 is expected on a CPU)"
        print(f"  fused is x {ratio:.2f} as fast  {aim}; grouped convolutions x {other:.2f}")
        rows.append(
            {
                "what": f"{members} LeNet5 as one on {describe_environment(device)['device']}, "
                f"{text}: speed over one after another",
                "ratio": round(ratio, 2),
                "aim": f"at least {AIM} on a GPU",
            }
        )
    if gpu:
        print(f"\npeak memory {torch.cuda.max_memory_allocated() / 2**30:.1f} GiB for both packs")
    write("fused", rows)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
