"""A dry run of a sweep of 1,000 cells, with none done and with all but the last seed done.

    python benchmarks/dry_run.py

Aim: under 5 seconds, each in a process of its own. The finished cells are made up, as large as
real ones: flags of 10,000 images for each attack.
"""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from measure import machine, verdict

from robustpolicy.experiments.paper import EXPERIMENTS
from robustpolicy.experiments.results import cell_name

SEEDS = 21
ROUNDS = 5


def make_results(folder: Path) -> None:
    """Results of all seeds but the last."""
    table = EXPERIMENTS["table2"]
    (folder / table.name).mkdir(parents=True)
    for row in table.rows:
        evaluations = []
        for samples in (None, 1000):
            n = samples or 10_000
            attacks = {
                measure.attack: {
                    "robust_accuracy": 0.5,
                    "config": dict(measure.settings),
                    "seconds": 30.0,
                    "robust": "01" * (n // 2),
                }
                for measure in row.measures
                if measure.samples == samples
            }
            threat = {"epsilon": 0.1, "norm": "Linf"}
            which = "all" if samples is None else f"{n} drawn at random"
            evaluations.append({"n": n, "samples": which, "threat": threat, "attacks": attacks})
        for seed in range(SEEDS - 1):
            recipe = dataclasses.replace(row.recipe, seed=seed)
            training = {"seconds": 1200.0, "loss": 200 * [0.01], "second_stage_epoch": 2}
            result = {"recipe": recipe.to_json(), "training": training, "evaluations": evaluations}
            (folder / table.name / f"{cell_name(row, recipe)}.json").write_text(json.dumps(result))


def dry_run(folder: Path) -> tuple[float, str]:
    """Least seconds of a few, and the first line printed."""
    command = [sys.executable, "-m", "robustpolicy", "reproduce", "table2", "--dry-run"]
    command += ["--seeds", str(SEEDS), "--output", str(folder / "runs"), "--known", str(folder)]
    seconds = []
    for _ in range(ROUNDS):
        begun = time.perf_counter()
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        seconds.append(time.perf_counter() - begun)
    return sorted(seconds)[ROUNDS // 2], done.stdout.splitlines()[0]


def main() -> None:
    """Measure both."""
    print(machine())
    with tempfile.TemporaryDirectory() as name:
        for make in (lambda folder: None, make_results):
            make(Path(name))
            seconds, line = dry_run(Path(name))
            print(
                f"{line}: {seconds:.2f} s, median of {ROUNDS}, {verdict(seconds, 5, at_most=True)}"
            )


if __name__ == "__main__":
    main()
