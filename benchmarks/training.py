"""Training on a CPU against plain PyTorch and the usual loop, in one run.

    python benchmarks/training.py [--threads N] [--rounds N] [--only PART ...] [--write]

Parts: a step of LeNet5, a step of VGG13 (forward, cross-entropy, backward, SGD; real images), a
whole MNIST epoch against the usual loop, and cells of a grid in several processes. Each candidate
has a process of its own, and they take turns. With a GPU: benchmarks/gpu.py.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import steps
import torch
from measure import machine, take_turns_apart, verdict, write
from usual import our_epoch, usual_epoch

from robustpolicy.training import Recipe, get_recipe, train
from robustpolicy.training.processes import run_processes

#: Least ratios; of the grid by the number of processes.
STEP_BOUNDS = {"LeNet5": 1.4, "VGG13": 1.15}
EPOCH_BOUND = 1.5
GRID_BOUNDS = {2: 1.7, 4: 3.2}


def step(model: str, batch: int, options: argparse.Namespace, calls: int) -> dict[str, object]:
    """Compare a training step with plain eager PyTorch's; prints and returns a row."""
    candidates = {
        "plain": partial(steps.plain, model, batch, options.threads, False),
        "plain, memory kept": partial(steps.plain, model, batch, options.threads, True),
        "ours, memory not kept": partial(steps.ours, model, batch, options.threads, False),
        "ours": partial(steps.ours, model, batch, options.threads, True),
    }
    timings = take_turns_apart(candidates, options.rounds, calls, options.starts)
    top, (forward, work) = steps.peak(), steps.flops(model)
    print(
        f"\n{model}, one training step, batch {batch}: {forward / 1e6:.2f} MFLOP an image forward, "
        f"{work / 1e6:.2f} in all; float32 matrix products at {top / 1e9:.0f} GFLOP/s"
    )
    for name, timing in timings.items():
        rate = work * batch / timing.median
        ratio = timings["plain"].ratio(timing)
        print(
            f"  {name:22} {1e3 * timing.median:8.2f} ms  {rate / 1e9:6.1f} GFLOP/s, "
            f"{rate / top:4.0%} of these  x {ratio:.2f}"
        )
    own, bound = timings["ours"], STEP_BOUNDS[model]
    ratio, kept = timings["plain"].ratio(own), timings["plain, memory kept"].ratio(own)
    gap = steps.difference(model, batch)
    print(f"  logits and gradients differ in float64 by at most {gap:.1e} of each")
    print(f"  ours is x {ratio:.2f} as fast  {verdict(ratio, bound, at_most=False)}", end="")
    print(f"; x {kept:.2f} as plain with the memory kept")
    return {
        "what": f"{model} training step, batch {batch}, {options.threads} thread(s): speed over "
        "plain eager PyTorch's",
        "ratio": round(ratio, 2),
        "aim": f"at least {bound:g}",
        "over_plain_with_memory_kept": round(kept, 2),
        "of_matmul_peak": round(work * batch / own.median / top, 3),
    }


def epoch(options: argparse.Namespace) -> dict[str, object]:
    """Compare an MNIST epoch with the usual loop's; prints and returns a row."""
    candidates = {
        "ours": partial(our_epoch, options.threads),
        "usual loop": partial(usual_epoch, options.threads),
    }
    timings = take_turns_apart(candidates, options.rounds, 1)
    ratio = timings["usual loop"].ratio(timings["ours"])
    print("\nLeNet5, one MNIST epoch, batch 128")
    for name, timing in timings.items():
        print(f"  {name:22} {timing.median:8.2f} s")
    print(f"  ours is x {ratio:.2f} as fast  {verdict(ratio, EPOCH_BOUND, at_most=False)}")
    return {
        "what": f"MNIST epoch of LeNet5, {options.threads} thread(s), speed over the usual loop's",
        "ratio": round(ratio, 2),
        "aim": f"at least {EPOCH_BOUND:g}",
    }


def _train_cell(recipe: Recipe, folder: str) -> None:
    torch.set_num_threads(1)
    train(recipe, folder, device="cpu")


def grid(options: argparse.Namespace) -> dict[str, object]:
    """Cells of the MNIST grid one after another and at once, a process each; start-up included."""
    cores = os.cpu_count() or 1
    cells = 4 if cores >= 4 else 2
    base = get_recipe("mnist-policy").with_epochs(options.cell_epochs)
    recipes = [dataclasses.replace(base, seed=seed) for seed in range(cells)]
    seconds = {}
    for workers in (1, cells):
        with tempfile.TemporaryDirectory() as folder:
            jobs = [(recipe, str(Path(folder) / str(recipe.seed))) for recipe in recipes]
            names = [f"seed {recipe.seed}" for recipe in recipes]
            begun = time.perf_counter()
            run_processes(_train_cell, jobs, names=names, workers=workers)
            seconds[workers] = time.perf_counter() - begun
    ratio, bound = seconds[1] / seconds[cells], GRID_BOUNDS[cells]
    print(
        f"\n{cells} cells of LeNet5, {options.cell_epochs} MNIST epochs each, one thread a "
        f"process, {cores} cores, load now {os.getloadavg()[0]:.1f}; start-up included"
    )
    print(f"  one after another      {seconds[1]:8.1f} s")
    print(f"  {cells} processes            {seconds[cells]:8.1f} s")
    print(f"  x {ratio:.2f} as fast  {verdict(ratio, bound, at_most=False)}")
    return {
        "what": f"{cells} LeNet5 cells in {cells} processes on {cores} cores: speed over one after "
        "another",
        "ratio": round(ratio, 2),
        "aim": f"at least {bound:g}",
        "load": round(os.getloadavg()[0], 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=5, help="of each start")
    parser.add_argument("--starts", type=int, default=3, help="of the processes of a step")
    parser.add_argument("--batch-vgg", type=int, default=128)
    parser.add_argument("--cell-epochs", type=int, default=5)
    parser.add_argument("--only", nargs="+", choices=("lenet5", "vgg13", "epoch", "grid"))
    parser.add_argument("--write", action="store_true", help="keep the ratios in results/")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    print(machine())
    parts: dict[str, Callable[[], dict[str, object]]] = {
        "lenet5": lambda: step("LeNet5", 128, options, 20),
        "vgg13": lambda: step("VGG13", options.batch_vgg, options, 1),
        "epoch": lambda: epoch(options),
        "grid": lambda: grid(options),
    }
    rows = [part() for name, part in parts.items() if not options.only or name in options.only]
    if not options.only:
        write("training", rows)


if __name__ == "__main__":
    main()
