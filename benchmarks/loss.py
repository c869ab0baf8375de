"""Forward and backward of the losses against F.cross_entropy, one thread, in one run.

    python benchmarks/loss.py [--write]

All reduce to a mean, as a training step does. The share of a LeNet5 training step (batch 128)
is the loss alone, forward and backward, over the whole step.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from measure import machine, take_turns, verdict, write

from robustpolicy.losses import ACTIONS, alternative_loss, policy_loss
from robustpolicy.models import LeNet5

ROUNDS = 31
#: (batch, classes) -> calls a round, and how many times cross-entropy the policy loss may take.
SHAPES = {
    (128, 10): (200, {"greedy": 2.0, "expected": 3.0, "sampled": 4.0}),
    (4096, 1000): (3, {"greedy": 1.6, "expected": 3.0, "sampled": 4.0}),
}
SHARE = 0.02


def main() -> None:
    torch.set_num_threads(1)
    print(machine())
    rows: list[dict[str, object]] = []
    for (batch, classes), (calls, bounds) in SHAPES.items():
        timings = take_turns(_candidates(batch, classes), ROUNDS, calls)
        base = timings["cross-entropy"]
        print(f"\n({batch}, {classes}), float32, {ROUNDS} rounds of {calls} calls")
        print(f"  {'cross-entropy':24} {1e6 * base.median:9.1f} us")
        for name, timing in timings.items():
            if name == "cross-entropy":
                continue
            ratio = timing.ratio(base)
            bound = bounds[name.split()[-1]]
            what = f"{name}, batch ({batch}, {classes}), time over cross-entropy's"
            rows.append({"what": what, "ratio": round(ratio, 2), "aim": f"at most {bound:g}"})
            print(
                f"  {name:24} {1e6 * timing.median:9.1f} us  x {ratio:.2f}  "
                f"{verdict(ratio, bound, at_most=True)}"
            )
        if batch == 128:
            _shares(timings)
    write("loss", rows)


def _candidates(batch: int, classes: int) -> dict:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(batch, classes, generator=generator, requires_grad=True)
    labels = torch.randint(classes, (batch,), generator=generator)

    def timed(loss, **options):
        def call():
            logits.grad = None
            loss(logits, labels, **options).backward()

        return call

    candidates = {"cross-entropy": timed(F.cross_entropy)}
    for loss in (policy_loss, alternative_loss):
        for actions in ACTIONS:
            name = f"{'Eq. 4' if loss is policy_loss else 'Eq. 12'} {actions}"
            candidates[name] = timed(loss, penalty=1.5, actions=actions, reduction="mean")
    return candidates


def _shares(timings: dict) -> None:
    model = LeNet5()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    x, y = torch.rand(128, 1, 28, 28), torch.randint(10, (128,))

    def step():
        optimizer.zero_grad()
        F.cross_entropy(model(x), y).backward()
        optimizer.step()

    whole = take_turns({"step": step}, ROUNDS, 5)["step"].median
    print(f"  LeNet5 training step     {1e6 * whole:9.1f} us")
    for name, timing in timings.items():
        share = timing.median / whole
        print(f"  {name:24} {100 * share:9.2f} %  {verdict(share, SHARE, at_most=True)}")


if __name__ == "__main__":
    main()
