"""Speed-up of engines: the same LeNet5 trainings on MNIST by 1, 2 and 4 workers.

    python benchmarks/engines.py [--cells N] [--epochs N] [--workers 1 2 4] [--rounds N] [--write]

Start-up is left out: processes that begin, imports, decoding MNIST, Ray's own start. Every worker
does all that in a first job, and the clock runs from the first training's begin to the last one's
end. Both engines run one thread a process, on this machine alone.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import torch
from measure import machine, verdict, write

from robustpolicy.data import load_dataset
from robustpolicy.experiments.engines import Engine, Job, LocalEngine, RayEngine
from robustpolicy.training import get_recipe, train

#: Of n workers over one: what we aim for, with as many cores.
AIMS = {2: 1.7, 4: 3.2}


def warm_up(folder: Path, number: int, workers: int) -> None:
    """Wait until every worker has one of these, so that none has two."""
    load_dataset("mnist")
    train(get_recipe("digits-ce").with_epochs(1), folder / f"warm{number}", device="cpu")
    (folder / f"ready{number}").touch()
    while len(list(folder.glob("ready*"))) < workers:
        time.sleep(0.05)


def cell(folder: Path, number: int, epochs: int) -> tuple[float, float]:
    """Train; when it began and ended."""
    begun = time.time()
    train(get_recipe("mnist-ce").with_epochs(epochs), folder / str(number), device="cpu")
    return begun, time.time()


def wall(engine: Engine, workers: int, cells: int, epochs: int) -> float:
    """Seconds that the cells take, start-up left out."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        first = [Job(f"warm{n}", warm_up, (folder, n, workers)) for n in range(workers)]
        needs = tuple(job.name for job in first)
        jobs = [Job(str(n), cell, (folder, n, epochs), needs) for n in range(cells)]
        outcomes = engine.run([*first, *jobs])
    for outcome in outcomes:
        assert outcome.error is None, outcome
        assert outcome.attempts == 1
    begun, ended = zip(*(outcome.value for outcome in outcomes[workers:]), strict=True)
    return max(ended) - min(begun)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--cells", type=int, default=8)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--engines", nargs="+", default=["local", "ray"])
    parser.add_argument("--write", action="store_true", help="keep the ratios in results/")
    options = parser.parse_args()
    torch.set_num_threads(1)
    load_dataset("mnist")  # decoded once, before the workers look for it
    print(machine())
    print(f"{options.cells} trainings of LeNet5 on MNIST, {options.epochs} epochs each", flush=True)
    makers = {"local": LocalEngine, "ray": lambda workers: RayEngine(workers=workers)}
    seconds: dict[tuple[str, int], list[float]] = {}
    for number in range(options.rounds):
        for name in options.engines:
            for workers in options.workers:
                took = wall(makers[name](workers), workers, options.cells, options.epochs)
                seconds.setdefault((name, workers), []).append(took)
                print(f"  round {number + 1}: {name}, {workers} workers: {took:.1f} s", flush=True)
    rows: list[dict[str, object]] = []
    base, *others = options.workers
    for name in options.engines:
        for workers in others:
            pairs = zip(seconds[name, base], seconds[name, workers], strict=True)
            ratio = statistics.median(one / many for one, many in pairs)
            what = f"{name} engine, {workers} workers over {base}: speed-up, start-up left out"
            aim = AIMS.get(workers, 0.8 * workers / base)
            rows.append({"what": what, "ratio": round(ratio, 2), "aim": f"at least {aim:g}"})
            print(f"{what}: x {ratio:.2f}  {verdict(ratio, aim, at_most=False)}")
    write("engines", rows)


if __name__ == "__main__":
    main()
