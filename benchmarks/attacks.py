"""AutoAttack against pyautoattack, in one run: the same flags, and the ratio of times.

    python benchmarks/attacks.py RUN [--samples N] [--epsilon F] [--write]

RUN is a run folder of ours (LeNet5 on MNIST, say). Needs the extra ``verify``. One thread; each
attack once, in turn, since a whole AutoAttack takes minutes.
"""

from __future__ import annotations

import argparse
import copy
import time
from collections.abc import Callable

import torch
from measure import machine, write
from torch import Tensor

from robustpolicy.attacks import APGD, AutoAttack, OfficialAutoAttack, Threat
from robustpolicy.data import load_dataset, to_float
from robustpolicy.evaluation import choose_samples
from robustpolicy.training import Run


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("run")
    parser.add_argument("--samples", type=int, default=500)
    parser.add_argument("--epsilon", type=float, default=0.1)
    parser.add_argument("--write", action="store_true", help="keep the figures in results/")
    options = parser.parse_args()
    torch.set_num_threads(1)
    print(machine())
    run = Run.open(options.run)
    dataset = load_dataset(run.recipe.dataset)
    model = run.load_model()
    chosen = choose_samples(len(dataset.test_labels), options.samples)
    x, y = to_float(dataset.test_images[chosen]), dataset.test_labels[chosen]
    # Ours runs as `robustpolicy evaluate` does, channels last; the official one in torch's own
    # layout, as its users do.
    fast_model = copy.deepcopy(model).to(memory_format=torch.channels_last)
    threat = Threat(options.epsilon)

    def measure(attack: Callable, seed: int = 0) -> tuple[Tensor, float]:
        official = isinstance(attack, OfficialAutoAttack)
        used = model if official else fast_model
        begun = time.perf_counter()
        parts = []
        for part in torch.arange(len(x)).split(250):
            images = x[part].contiguous() if official else x[part]
            parts.append(attack(used, images, y[part], threat, seed=seed))
        seconds = time.perf_counter() - begun
        with torch.no_grad():
            return model(torch.cat(parts)).argmax(1) == y, seconds

    rows = []
    for what, ours, official in (
        ("APGD-CE", APGD(start="official"), OfficialAutoAttack(attacks=("apgd-ce",))),
        ("APGD-T", APGD(targets=9, start="official"), OfficialAutoAttack(attacks=("apgd-t",))),
        ("AutoAttack standard", AutoAttack(), OfficialAutoAttack()),
    ):
        (mine, fast), (theirs, slow) = measure(ours), measure(official)
        differ = int((mine != theirs).sum())
        print(
            f"{what}: robust {int(mine.sum())} ours, {int(theirs.sum())} official, "
            f"{differ} differ; {fast:.0f} s against {slow:.0f} s, x {slow / fast:.2f}"
        )
        label = f"{what}, {len(y)} images, eps {options.epsilon:g}: speed over pyautoattack's"
        aim = "at least 1.2" if isinstance(ours, AutoAttack) else "at least 1"
        rows.append(
            {"what": label, "ratio": round(slow / fast, 2), "aim": aim, "flags_that_differ": differ}
        )
    other, _ = measure(OfficialAutoAttack(), seed=1)
    itself = int((other != theirs).sum())
    print(f"official AutoAttack under two seeds: {itself} flags differ")
    rows[-1]["official_flags_that_differ_under_two_seeds"] = itself
    write("attacks", rows)


if __name__ == "__main__":
    main()
