"""An experiment's tables as text: markdown, CSV, LaTeX or JSON."""

from __future__ import annotations

import dataclasses
import json

from robustpolicy.experiments.claims import judge_claims
from robustpolicy.experiments.curves import training_curves
from robustpolicy.experiments.measurements import measurements, paired_differences
from robustpolicy.experiments.paper import Experiment
from robustpolicy.experiments.results import Results
from robustpolicy.report.experiment_tables import (
    claims_table,
    experiment_tables,
    has_claims,
    long_table,
)
from robustpolicy.report.tables import Table

FORMATS = ("markdown", "csv", "latex", "json")


def export(experiment: Experiment, results: Results, kind: str) -> str:
    """An experiment in one of :data:`FORMATS`.

    Markdown and LaTeX have the tables as they are printed, and of a grid the long form too; CSV
    has the long form alone, a row a measurement; JSON has everything.
    """
    if kind == "csv":
        table = experiment_tables(experiment, results)[0] if experiment.figure else None
        return (table or long_table(experiment, results)).csv()
    if kind == "json":
        return json.dumps(as_data(experiment, results), indent=1, ensure_ascii=False) + "\n"
    tables = experiment_tables(experiment, results)
    if has_claims(experiment.name):
        tables.append(claims_table(experiment.name, results, experiment))
    if experiment.grid and not experiment.figure:
        tables.append(long_table(experiment, results))
    text = [_markdown(one) if kind == "markdown" else one.latex() for one in tables]
    return "\n\n".join(text) + "\n"


def as_data(experiment: Experiment, results: Results) -> dict[str, object]:
    """Everything that is known about an experiment, as plain data."""
    records = measurements(experiment, results)
    curves = training_curves(experiment, results) if experiment.figure else []
    return {
        "experiment": experiment.name,
        "title": experiment.title,
        "note": experiment.note,
        "reduced": list(experiment.reduced),
        "paper_runs": experiment.runs,
        "measurements": [dataclasses.asdict(record) for record in records],
        "differences": [dataclasses.asdict(o) for o in paired_differences(experiment, results)],
        "curves": [{**dataclasses.asdict(o), "fluctuation": o.fluctuation} for o in curves],
        "claims": [dataclasses.asdict(one) for one in judge_claims(experiment.name, records)],
    }


def _markdown(table: Table) -> str:
    return f"### {table.title}\n\n{table.markdown()}"
