"""``robustpolicy reproduce``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from robustpolicy.cli.parse import parse
from robustpolicy.experiments.paper import EXPERIMENTS, Experiment, get_experiment


@dataclass(frozen=True)
class Options:
    """Run a table of experiments and print ours beside the paper's.

    Finished cells are skipped, cut-off ones resumed.
    """

    experiment: Annotated[str, tyro.conf.Positional]
    """Name of one of the experiments above."""
    seeds: int = 1
    """Seeds 0 to N-1 of every row."""
    epochs: int | None = None
    """Train every row for this many epochs, drops scaled (marked as reduced)."""
    workers: int | None = None
    """Processes, one thread each; as many as cores if not given."""
    output: Path = Path("runs")
    """Run folders go below this."""
    results: Path | None = None
    """Results go below this; OUTPUT/results if not given."""
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """Where to train and attack."""
    data_dir: tuple[Path, ...] = ()
    """Folders to look for the data in first."""


def run(arguments: Sequence[str]) -> None:
    """Run an experiment and print its table."""
    listed = "\n".join(f"{e.name}: {e.title}. {e.note}".strip() for e in EXPERIMENTS.values())
    description = f"{Options.__doc__}\nExperiments:\n\n{listed}"
    options = parse(Options, arguments, "reproduce", description)
    experiment = get_experiment(options.experiment)
    if options.epochs is not None:
        experiment = experiment.with_epochs(options.epochs)
    reproduce(
        experiment,
        seeds=options.seeds,
        workers=options.workers,
        output=options.output,
        results=options.results,
        device=options.device,
        data_dir=options.data_dir,
    )


def reproduce(
    experiment: Experiment,
    *,
    seeds: int,
    workers: int | None,
    output: Path,
    results: Path | None,
    device: str,
    data_dir: Sequence[Path],
) -> None:
    """Run the cells of an experiment and print its table."""
    from robustpolicy.data import load_dataset
    from robustpolicy.errors import UserError
    from robustpolicy.experiments.results import read_results
    from robustpolicy.experiments.sweep import plan_cells, run_cells
    from robustpolicy.report.progress import SweepProgress
    from robustpolicy.report.tables import experiment_table

    for flag, count in (("seeds", seeds), ("workers", workers)):
        if count is not None and count < 1:
            raise UserError(f"--{flag} is {count}; give at least 1")
    results = results or output / "results"
    cells = plan_cells(experiment, range(seeds), output, results)
    for dataset in {cell.recipe.dataset for cell in cells if not cell.done}:
        load_dataset(dataset, data_dir)  # fetched and decoded once, before the workers start
    with SweepProgress(cells) as progress:
        run_cells(cells, workers=workers, data_dirs=data_dir, device=device, watch=progress)
    experiment_table(experiment, read_results(results, experiment)).print()
