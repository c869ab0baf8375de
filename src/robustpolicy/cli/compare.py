"""``robustpolicy compare``."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from robustpolicy.cli.parse import check_output, parse

#: File formats of --figure.
FIGURES = (".png", ".pdf", ".svg")


@dataclass(frozen=True)
class Options:
    """Compare finished runs of one data set; the first is the reference.

    Prints where their recipes differ, their training curves, and their robust accuracy under the
    same attacks on the same samples, paired sample by sample. Evaluations are kept in the run
    folders, so a second comparison takes no time.
    """

    runs: Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="RUN RUN ...")]
    """Run folders, at least two."""
    attacks: tuple[str, ...] = ("clean", "fgsm", "pgd")
    """Some of clean, fgsm, pgd, apgd-ce, apgd-dlr, apgd-t, fab, fab-t, square, spsa, autoattack."""
    norm: Literal["Linf", "L2"] = "Linf"
    """Norm of the ball."""
    epsilon: float | None = None
    """Radius of the ball, inputs in [0, 1]; the paper's for the data set if not given (Linf alone:
    digits and mnist 0.1, cifar10 0.04)."""
    samples: int | None = None
    """Test samples, drawn at random with the seed; all if not given."""
    seed: int = 0
    """Seed of the draw and of the attacks."""
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """Where to evaluate."""
    data_dir: tuple[Path, ...] = ()
    """Folders to look for the data in first."""
    threads: int | None = None
    """CPU threads; as many as torch chooses if not given."""
    json: Path | None = None
    """Write everything to this file, histories and per-sample flags included."""
    figure: Path | None = None
    """Draw the training curves to this file (.png, .pdf or .svg)."""
    quiet: bool = False
    """No progress."""


def run(arguments: Sequence[str]) -> None:
    """Compare runs and print tables."""
    options = parse(Options, arguments, "compare")

    from functools import cache

    from robustpolicy.attacks import ATTACKS
    from robustpolicy.cli.attacks import choose_attacks
    from robustpolicy.cli.threat import threat_of
    from robustpolicy.data import Dataset, load_dataset
    from robustpolicy.errors import UserError
    from robustpolicy.evaluation import Plan
    from robustpolicy.experiments.compare import compare_runs, open_runs
    from robustpolicy.report.comparison import print_comparison
    from robustpolicy.report.progress import EvaluationProgress
    from robustpolicy.training.environment import resolve_device, set_threads
    from robustpolicy.training.files import write_json

    runs = open_runs(options.runs)
    check_output("--json", options.json)
    check_output("--figure", options.figure)
    if options.figure is not None and options.figure.suffix.lower() not in FIGURES:
        raise UserError(f"--figure {options.figure}: give a file ending in {', '.join(FIGURES)}")
    set_threads(options.threads)
    dataset = runs[0].recipe.dataset
    plan = Plan(
        threat_of(options.norm, options.epsilon, dataset),
        choose_attacks(options.attacks, {"clean": "clean", **ATTACKS}),
        options.samples,
        seed=options.seed,
    )

    @cache
    def load() -> Dataset:
        return load_dataset(dataset, options.data_dir)

    with EvaluationProgress(quiet=options.quiet) as progress:
        found = compare_runs(runs, plan, load, resolve_device(options.device), progress)
    print_comparison(found)  # first: a full disk must not lose it
    for one in found["runs"]:
        for line in one["evaluation"].get("warnings", []):
            print(f"warning: {one['name']}: {line}")
    sys.stdout.flush()
    if options.json is not None:
        write_json(options.json, found)
    if options.figure is not None:
        from robustpolicy.report.figures import curves_figure, save_figure

        histories = {one["name"]: one["history"] for one in found["runs"]}
        save_figure(curves_figure(histories), options.figure)
