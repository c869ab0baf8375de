"""APGD and AutoAttack against pyautoattack in one process: the same flags, and the speed.

    python benchmarks/attacks.py [RUN] [--samples N] [--epsilon F] [--device D] [--write]

Without RUN: LeNet5 on MNIST trained with cross-entropy, in two stages and adversarially. With a
RUN of ours, that model alone; on a GPU, its figures are kept under the GPU's name. Needs the extra
``verify``. One thread unless said otherwise; a whole AutoAttack takes minutes, so each runs once.
"""

from __future__ import annotations

import argparse
import copy
import os
import time
from collections.abc import Callable
from functools import partial

import torch
from measure import machine, write
from models import mnist_runs, robust, test_batch
from torch import Tensor

from robustpolicy.attacks import APGD, AutoAttack, OfficialAutoAttack, Threat
from robustpolicy.evaluation import Plan
from robustpolicy.evaluation.workers import evaluate_in_workers
from robustpolicy.training import Run

BATCH = 250


class Bench:
    """Ours and the official attacks on one model and the same images.

    Ours runs as `robustpolicy evaluate` does, channels last; the official one in torch's own
    layout, as its users run it.
    """

    def __init__(self, run: Run, samples: int, epsilon: float, device: str) -> None:
        self.run, self.device = run, device
        self.model = run.load_model().to(device)
        self.fast = copy.deepcopy(self.model).to(memory_format=torch.channels_last)
        x, y, self.chosen = test_batch(run, samples)
        self.x, self.y = x.to(device).contiguous(), y.to(device)
        self.threat = Threat(epsilon)

    def flags(self, attack: Callable, seed: int = 0) -> tuple[Tensor, float]:
        """Which samples withstand, judged by the one model, and the seconds it took."""
        model = self.model if isinstance(attack, OfficialAutoAttack) else self.fast
        begun = time.perf_counter()
        parts = [
            attack(model, self.x[part], self.y[part], self.threat, seed=seed)
            for part in torch.arange(len(self.x)).split(BATCH)
        ]
        found = robust(self.model, torch.cat(parts), self.y).cpu()
        return found, time.perf_counter() - begun

    def compare(self, name: str, ours: Callable, official: Callable, aim: str) -> dict:
        """One row: the ratio of times, and how many flags differ."""
        (mine, fast), (theirs, slow) = self.flags(ours), self.flags(official)
        self.official = theirs
        differ = int((mine != theirs).sum())
        print(
            f"{name}: robust {int(mine.sum())} ours, {int(theirs.sum())} official of {len(mine)}, "
            f"{differ} differ; {fast:.1f} s against {slow:.1f} s, x {slow / fast:.2f}",
            flush=True,
        )
        row = {"what": f"{name}: speed over pyautoattack's", "ratio": round(slow / fast, 2)}
        return {**row, "aim": aim, "flags_that_differ": differ, "robust": int(mine.sum())}


def apgd_rows(bench: Bench, name: str) -> list[dict]:
    """APGD from the official starts: the same flags are expected of every sample."""
    size = f"{len(bench.y)} images, eps {bench.threat.epsilon:g}"
    return [
        bench.compare(
            f"APGD-{letter}, {name}, {size}",
            APGD(targets=targets, start="official"),
            OfficialAutoAttack(attacks=(f"apgd-{letter.lower()}",)),
            "at least 1",
        )
        for letter, targets in (("CE", 0), ("T", 9))
    ]


def broken_row(bench: Bench, epsilon: float) -> dict:
    """APGD-CE where every sample falls at once: what leaving early is worth at most."""
    bench = copy.copy(bench)
    bench.threat = Threat(epsilon)
    return bench.compare(
        f"APGD-CE, a model that breaks wholly (eps {epsilon:g}), {len(bench.y)} images",
        APGD(start="official"),
        OfficialAutoAttack(attacks=("apgd-ce",)),
        "at least 10",
    )


def autoattack_rows(bench: Bench, name: str, aim: str) -> list[dict]:
    """AutoAttack standard from our own starts; the official one differs from itself by seed."""
    size = f"{len(bench.y)} images, eps {bench.threat.epsilon:g}"
    what = f"AutoAttack standard, {name}, {size}"
    row = bench.compare(what, AutoAttack(), OfficialAutoAttack(), aim)
    itself = int((bench.official != bench.flags(OfficialAutoAttack(), seed=1)[0]).sum())
    row["official_flags_that_differ_under_two_seeds"] = itself
    print(f"official under two seeds: {itself} flags differ", flush=True)
    return [row]


def worker_row(bench: Bench) -> dict:
    """AutoAttack over processes, start-up included, against the official one's best threads."""
    cores = len(os.sched_getaffinity(0))
    plan = Plan(bench.threat, ("clean", AutoAttack()), seed=0, batch_size=BATCH)
    target = (str(bench.run.path), None, None)
    begun = time.perf_counter()
    found = evaluate_in_workers(
        target, plan, bench.chosen, workers=cores, device=torch.device("cpu")
    )
    ours = time.perf_counter() - begun
    seconds = {}
    for threads in sorted({1, 2, cores}):
        torch.set_num_threads(threads)
        seconds[threads] = bench.flags(OfficialAutoAttack())[1]
    torch.set_num_threads(1)
    best = min(seconds, key=lambda threads: seconds[threads])
    ratio = seconds[best] / ours
    print(
        f"{cores} workers: {ours:.0f} s, robust {int(found.robust.sum())}; official by threads: "
        + ", ".join(f"{n}: {s:.0f} s" for n, s in seconds.items())
        + f"; x {ratio:.2f}",
        flush=True,
    )
    return {
        "what": f"AutoAttack standard, {len(bench.y)} images, {cores} workers: speed over "
        f"pyautoattack's with its best thread count ({best})",
        "ratio": round(ratio, 2),
        "aim": "at least 1.5",
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("run", nargs="?")
    parser.add_argument("--samples", type=int, default=500)
    parser.add_argument("--epsilon", type=float, default=0.1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--write", action="store_true", help="keep the figures in results/")
    options = parser.parse_args()
    torch.set_num_threads(1)
    print(machine())
    bench = partial(Bench, samples=options.samples, epsilon=options.epsilon, device=options.device)
    if options.run is not None:
        one = bench(Run.open(options.run))
        name = f"{one.run.recipe.model} on {options.device}"
        aim = "at least 1.2" if options.device == "cpu" else "at least 3"
        write(
            f"attacks-{options.device}", [*apgd_rows(one, name), *autoattack_rows(one, name, aim)]
        )
        return
    benches = {name: bench(run) for name, run in mnist_runs().items()}
    first = benches["cross-entropy"]
    workers = worker_row(first)
    rows = [row for name, one in benches.items() for row in apgd_rows(one, name)]
    rows.append(broken_row(first, 0.3))
    rows += autoattack_rows(first, "cross-entropy", "at least 1.2")
    write("attacks", [*rows, workers])


if __name__ == "__main__":
    main()
