"""``robustpolicy reproduce``."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from robustpolicy.cli.parse import parse
from robustpolicy.errors import UserError
from robustpolicy.experiments.paper import EXPERIMENTS, PAPER, Experiment, get_experiment

if TYPE_CHECKING:
    from robustpolicy.experiments.cells import Cell
    from robustpolicy.experiments.engines import Engine
    from robustpolicy.experiments.results import Results


@dataclass(frozen=True)
class Options:
    """Run a table or figure of the paper, and print ours beside the paper's.

    Finished cells are skipped, cut-off ones resumed: give the same command again. A cell that
    fails is tried again, then reported, while the others go on.
    """

    experiment: Annotated[str, tyro.conf.Positional]
    """Name of one of the experiments above, or all: every table and figure of the paper."""
    seeds: int | None = None
    """Seeds 0 to N-1 of every row; as many as the paper has runs if not given."""
    epochs: int | None = None
    """Train every row for this many epochs, drops scaled (marked as reduced)."""
    penalties: tuple[float, ...] = ()
    """Keep these penalties of a grid, in both stages."""
    warmup_penalties: tuple[float, ...] = ()
    """Keep these penalties of the first stage instead."""
    samples: int | None = None
    """Attack at most so many test images, drawn at random (marked as reduced)."""
    attacks: tuple[str, ...] = ()
    """Attack with these alone: clean, fgsm, pgd, autoattack, transfer, ...; the table's if not
    given."""
    engine: Literal["local", "ray"] = "local"
    """Run in processes of this machine, or as tasks of a Ray cluster (extra ray)."""
    address: str | None = None
    """Address of the Ray cluster: host:port, or auto for one that runs here; without it
    $RAY_ADDRESS, or else a cluster of this machine's own."""
    workers: int | None = None
    """Processes, one thread each; as many as cores if not given, with CUDA one."""
    shard: str | None = None
    """Run share i/N of the cells, as in a Slurm array."""
    share: bool = True
    """Train the epochs that cells have in common once."""
    dry_run: bool = False
    """Say what is to be done and what is done already, and stop."""
    output: Path = Path("runs")
    """Run folders go below this."""
    results: Path | None = None
    """Results go below this; OUTPUT/results if not given."""
    known: tuple[Path, ...] = (Path("results"),)
    """Folders whose results count as done too; without a folder, none."""
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """Where to train and attack."""
    data_dir: tuple[Path, ...] = ()
    """Folders to look for the data in first."""


def run(arguments: Sequence[str]) -> int:
    """Run an experiment and print its table."""
    listed = "\n".join(f"{e.name}: {e.title}. {e.note}".strip() for e in EXPERIMENTS.values())
    description = f"{Options.__doc__}\nExperiments:\n\n{listed}"
    options = parse(Options, arguments, "reproduce", description)
    for flag in ("seeds", "epochs", "workers"):
        count = getattr(options, flag)
        if count is not None and count < 1:
            raise UserError(f"--{flag} is {count}; give at least 1")
    return reproduce(_chosen(options), options)


def _chosen(options: Options) -> list[Experiment]:
    """The experiments, reduced as the options say."""
    every = options.experiment == "all"
    chosen = list(PAPER) if every else [get_experiment(options.experiment)]
    if every and (options.penalties or options.warmup_penalties):
        raise UserError("--penalties is for one table; give its name instead of all")
    return [_reduced(experiment, options) for experiment in chosen]


def _reduced(experiment: Experiment, options: Options) -> Experiment:
    if options.penalties or options.warmup_penalties:
        if not options.penalties:
            raise UserError("--warmup-penalties needs --penalties, those of the second stage")
        experiment = experiment.with_penalties(options.penalties, options.warmup_penalties or None)
    if options.attacks and not experiment.figure:
        experiment = experiment.with_attacks(options.attacks)
    if options.epochs is not None:
        experiment = experiment.with_epochs(options.epochs)
    if options.samples is not None and not experiment.figure:
        experiment = experiment.with_samples(options.samples)
    return experiment


def reproduce(experiments: Sequence[Experiment], options: Options) -> int:
    """Run the cells of experiments and print their tables; the exit code."""
    from robustpolicy.experiments.cells import plan_cells
    from robustpolicy.experiments.engines import parse_shard
    from robustpolicy.experiments.results import Results
    from robustpolicy.experiments.sweep import run_cells, shard_cells, to_do
    from robustpolicy.report.plan import print_plan
    from robustpolicy.report.progress import SweepProgress

    place = options.results or options.output / "results"
    cells = [
        cell
        for experiment in experiments
        for cell in plan_cells(
            experiment, range(options.seeds or experiment.runs), options.output, place
        )
    ]
    if options.shard is not None:
        cells = shard_cells(cells, *parse_shard(options.shard))
    known = Results(place, *options.known)
    for path, reason in known.damaged.items():
        print(f"warning: {path} is not a result ({reason}); it does not count", file=sys.stderr)
    todo = to_do(cells, known)
    print_plan(
        cells, todo, known, share=options.share, workers=options.workers, device=options.device,
        measure=not options.dry_run,
    )  # fmt: skip
    if options.dry_run:
        return 0
    failed = {}
    if todo:
        engine = _engine(options)
        _load_data(todo, options)
        with SweepProgress(todo) as progress:
            report = run_cells(
                todo, engine=engine, output=options.output, results=known, share=options.share,
                data_dirs=options.data_dir, device=options.device, tick=progress,
                on_done=progress.done,
            )  # fmt: skip
        for line in report.warnings:
            print(f"warning: {line}", file=sys.stderr)
        failed = report.failed
        known = Results(place, *options.known)
    for experiment in experiments:
        _show(experiment, known, options.output)
    for name, error in failed.items():
        print(f"failed: {name}: {error}", file=sys.stderr)
    if failed:
        print(
            f"robustpolicy: {len(failed)} jobs failed; the same command tries them again",
            file=sys.stderr,
        )
    return 1 if failed else 0


def _engine(options: Options) -> Engine:
    from robustpolicy.experiments import engines

    if options.engine == "ray":
        return engines.RayEngine(options.address, options.workers)
    from robustpolicy.training.environment import resolve_device

    alone = options.workers is None and resolve_device(options.device).type == "cuda"
    return engines.LocalEngine(1 if alone else options.workers)


def _load_data(todo: Sequence[Cell], options: Options) -> None:
    """Fetch and decode once, before the workers start."""
    from robustpolicy.data import load_dataset

    for dataset in sorted({cell.recipe.dataset for cell in todo}):
        load_dataset(dataset, options.data_dir)


def _show(experiment: Experiment, results: Results, output: Path) -> None:
    if experiment.figure:
        from robustpolicy.report.training_curves import draw_figure3

        draw_figure3(experiment, results, output)
        return
    from robustpolicy.report.experiment_tables import experiment_tables

    for table in experiment_tables(experiment, results):
        table.print()
        print()
