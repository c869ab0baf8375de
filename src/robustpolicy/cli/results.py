"""``robustpolicy results``."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from robustpolicy.cli.parse import check_output, parse
from robustpolicy.errors import UserError
from robustpolicy.experiments.paper import EXPERIMENTS, Experiment, get_experiment

if TYPE_CHECKING:
    from robustpolicy.experiments.results import Results


@dataclass(frozen=True)
class Options:
    """Look at what is measured, the paper's numbers beside it.

    list: experiments, cells and seeds that there are results of. show NAME: its tables. export
    NAME: the same as markdown, CSV, LaTeX or JSON. claims [NAME]: what the paper says about its
    grids, tested on its own cells and on ours.
    """

    action: Annotated[Literal["list", "show", "export", "claims"], tyro.conf.Positional] = "list"
    """What to do."""
    name: Annotated[str, tyro.conf.Positional] = ""
    """Name of an experiment."""
    results: tuple[Path, ...] = (Path("results"), Path("runs/results"))
    """Folders to look in."""
    format: Literal["markdown", "csv", "latex", "json"] = "markdown"
    """Format of export."""
    output: Path | None = None
    """Write the export to this file, not to standard output."""
    epochs: int | None = None
    """Results of this many epochs alone; each that there is if not given."""


def run(arguments: Sequence[str]) -> None:
    """List, show or export results."""
    options = parse(Options, arguments, "results")
    check_output("--output", options.output)
    if options.name:
        get_experiment(options.name)
    elif options.action in ("show", "export"):
        raise UserError(f"{options.action} needs a name; choose one of {', '.join(EXPERIMENTS)}")

    from robustpolicy.experiments.results import Results

    given = [folder for folder in options.results if folder.is_dir()]
    if not given:
        shown = " and ".join(map(str, options.results))
        raise UserError(f"{shown} is no folder; give the folder of results as --results")
    results = Results(*given)
    results.check()
    if options.action == "list":
        _list(results)
    elif options.action == "claims":
        _claims(options, results)
    else:
        _show(options, results)


def _list(results: Results) -> None:
    from robustpolicy.report.overview import overview_table

    overview_table(results).print()


def _variants(options: Options, results: Results) -> list[Experiment]:
    """The experiment as it is declared, and as it is reduced in results."""
    from robustpolicy.experiments.variants import measured_part, variants

    found = variants(get_experiment(options.name), results, options.epochs)
    if not found:
        raise UserError(
            f"there are no results of {options.name}"
            + (f" over {options.epochs} epochs" if options.epochs else "")
            + f"; measure them with `robustpolicy reproduce {options.name}`"
        )
    return [measured_part(form, results) for form in found]


def _show(options: Options, results: Results) -> None:
    from robustpolicy.report.experiment_tables import experiment_tables
    from robustpolicy.report.export import export

    found = _variants(options, results)
    if options.action == "export":
        if options.format == "json" and len(found) > 1:
            raise UserError(
                f"{options.name} has results over several numbers of epochs; give --epochs"
            )
        texts = [export(experiment, results, options.format) for experiment in found]
        if options.format == "csv":  # one heading, whatever the number of epochs
            texts = [texts[0], *(text.partition("\n")[2] for text in texts[1:])]
        text = ("" if options.format == "csv" else "\n").join(texts)
        if options.output is None:
            sys.stdout.write(text)
        else:
            from robustpolicy.training.files import write_text

            write_text(options.output, text)
        return
    for experiment in found:
        for table in experiment_tables(experiment, results):
            table.print()
            print()


def _claims(options: Options, results: Results) -> None:
    from robustpolicy.experiments.claims import CLAIMS
    from robustpolicy.experiments.variants import variants
    from robustpolicy.report.experiment_tables import claims_table

    if options.name and options.name not in CLAIMS:
        raise UserError(
            f"the paper claims no trend in {options.name}; choose one of {', '.join(CLAIMS)}"
        )
    for name in [options.name] if options.name else list(CLAIMS):
        found = variants(EXPERIMENTS[name], results, options.epochs) or [EXPERIMENTS[name]]
        for experiment in found:
            claims_table(name, results, experiment).print()
            print()
