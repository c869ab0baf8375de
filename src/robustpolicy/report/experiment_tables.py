"""An experiment's tables: the paper's number and ours, with interval and n, beside each other."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from robustpolicy.experiments.claims import CLAIMS, Answer, judge_claims
from robustpolicy.experiments.curves import training_curves
from robustpolicy.experiments.measurements import (
    Difference,
    Measurement,
    measurements,
    paired_differences,
    stuck_in_first_stage,
)
from robustpolicy.experiments.paper import EXPERIMENTS, Experiment
from robustpolicy.experiments.results import Results
from robustpolicy.report.tables import Table
from robustpolicy.report.training_curves import fluctuation_table

NOTHING = "–"
#: A table of more measures has them as rows.
WIDE = 6


def experiment_tables(experiment: Experiment, results: Results) -> list[Table]:
    """All that there is to say about an experiment: numbers, differences between rows."""
    experiment = _with_stuck(experiment, results)
    if experiment.figure:
        return [fluctuation_table(experiment, training_curves(experiment, results))]
    records = measurements(experiment, results)
    tables = _matrices(experiment, records) if experiment.grid else [_rows(experiment, records)]
    differences = paired_differences(experiment, results)
    if differences:
        tables.append(difference_table(experiment, differences))
    return tables


def long_table(experiment: Experiment, results: Results) -> Table:
    """A row a measurement, a column a field: for programs."""
    records = measurements(experiment, results)
    columns = tuple(field.name for field in dataclasses.fields(Measurement))
    rows = tuple(tuple(_plain(getattr(record, column)) for column in columns) for record in records)
    return Table(_title(experiment), columns, rows, words=(0, 1, 2, 3, 4, 12, 16))


def difference_table(experiment: Experiment, differences: Sequence[Difference]) -> Table:
    """Paired differences over seeds, with Holm's correction over the rows of each measure."""
    rows = tuple(
        (
            f"{one.label} less {one.against}",
            one.heading,
            f"{one.mean:+.2f}",
            f"{one.low:+.2f} to {one.high:+.2f}",
            p_value(one.p),
            p_value(one.p_holm),
            str(one.seeds),
        )
        for one in differences
    )
    columns = ("difference", "measure", "points", "95 %", "p", "Holm", "seeds")
    note = (
        "Seed by seed: t interval and paired t test; Holm's correction over the rows of a measure."
    )
    notes = (" ".join(filter(None, (note, experiment.mark))),)
    return Table(f"{_title(experiment)}: differences", columns, rows, notes, words=(0, 1))


def _with_stuck(experiment: Experiment, results: Results) -> Experiment:
    """The experiment with a note on trainings that stayed in their first stage."""
    stuck, count = stuck_in_first_stage(experiment, results)
    if not stuck:
        return experiment
    said = f"The second stage never began in {stuck} of {count} trainings: lambda_2 had no say."
    return dataclasses.replace(experiment, note=f"{said} {experiment.note}".strip())


def claims_table(name: str, results: Results, experiment: Experiment | None = None) -> Table:
    """The paper's claims about a grid, and whether they hold on its cells and on ours."""
    experiment = experiment or EXPERIMENTS[name]
    answers = judge_claims(name, measurements(experiment, results))
    rows = tuple(_answer(one) for one in answers)
    columns = ("robust accuracy", "cells", "measure", "answer", "p", "evidence")
    note = (
        "Trends: mean of Spearman's rank correlations over the lines of the grid, values permuted "
        "within their lines; lowest: binomial. Answers at p < .05; not enough data where the cells "
        "could not show a correlation of .5 four times in five."
    )
    title = f"Claims about {_title(experiment)}"
    stuck = _with_stuck(dataclasses.replace(experiment, note=""), results).note
    notes = (" ".join(filter(None, (note, stuck, experiment.mark))),)
    return Table(title, columns, rows, notes, words=(0, 1, 2, 3, 5))


def has_claims(name: str) -> bool:
    """Whether the paper claims something about the trends of an experiment."""
    return name in CLAIMS


def p_value(p: float | None) -> str:
    """A p-value as it is shown."""
    if p is None:
        return NOTHING
    return f"{p:.4f}" if p >= 0.0001 else "<1e-4"


def _answer(one: Answer) -> tuple[str, ...]:
    source = f"{one.source}, reduced" if one.reduced else one.source
    return (one.claim.text, source, one.measure, one.answer, p_value(one.p), one.evidence)


def _rows(experiment: Experiment, records: Sequence[Measurement]) -> Table:
    """A row a method: the paper's number and ours under each measure."""
    headings = {record.measure: record.heading for record in records}
    printed = {record.measure for record in records if record.paper is not None}
    if len(headings) > WIDE:
        return _on_its_side(experiment, records)
    columns = ["training"]
    for measure, heading in headings.items():
        columns += [f"{heading}, paper", "ours"] if measure in printed else [heading]
    columns.append("seeds")
    rows = []
    for row in experiment.rows:
        own = {record.measure: record for record in records if record.row == row.key}
        cells = [row.label]
        for measure in headings:
            record = own.get(measure)
            if measure in printed:
                cells.append((record.paper if record else None) or NOTHING)
            cells.append(_ours(record))
        rows.append((*cells, _seeds(list(own.values()))))
    return Table(_title(experiment), tuple(columns), tuple(rows), _notes(experiment, records))


def _on_its_side(experiment: Experiment, records: Sequence[Measurement]) -> Table:
    """A row a measure, two columns a method: where there are many measures."""
    columns = ["attack"]
    for row in experiment.rows:
        columns += [f"{row.label}, paper", "ours"]
    rows = []
    for measure, heading in {record.measure: record.heading for record in records}.items():
        own = {record.row: record for record in records if record.measure == measure}
        cells = [heading]
        for row in experiment.rows:
            record = own.get(row.key)
            cells += [(record.paper if record else None) or NOTHING, _ours(record)]
        rows.append(tuple(cells))
    counts = (f"{_seeds(records)} seeds.",) if any(record.seeds for record in records) else ()
    notes = (" ".join((*_notes(experiment, records), *counts)),)
    return Table(_title(experiment), tuple(columns), tuple(rows), notes)


def _matrices(experiment: Experiment, records: Sequence[Measurement]) -> list[Table]:
    """A matrix a measure: lambda_1 down, lambda_2 across, the paper's number and ours."""
    tables = []
    for measure in {record.measure: None for record in records}:
        own = [record for record in records if record.measure == measure]
        cells = {(record.lambda_1, record.lambda_2): record for record in own}
        firsts = sorted({first for first, _ in cells if first is not None})
        seconds = sorted({second for _, second in cells if second is not None})
        rows = tuple(
            (f"{first:g}", *(_both(cells.get((first, second))) for second in seconds))
            for first in firsts
        )
        columns = ("lambda_1 / lambda_2", *(f"{second:g}" for second in seconds))
        title = f"{_title(experiment)}: {own[0].heading}"
        tables.append(Table(title, columns, rows, _notes(experiment, own)))
    return tables


def _notes(experiment: Experiment, records: Sequence[Measurement]) -> tuple[str, ...]:
    images: dict[int, dict[str, None]] = {}
    for record in records:
        if record.images:
            images.setdefault(record.images, {})[record.heading] = None
    counts = [
        f"{n} test images" + (f" ({', '.join(names)})" if len(images) > 1 else "")
        for n, names in sorted(images.items(), reverse=True)
    ]
    radii = sorted({record.epsilon for record in records})
    parts = [
        f"Percent of {' and '.join(counts)}." if counts else "Nothing is measured yet.",
        f"eps {', '.join(f'{radius:.4g}' for radius in radii)}." if radii else "",
        "The paper's number / ours." if experiment.grid else "",
        "95 % intervals: t over seeds; of one seed, Wilson over its images." if counts else "",
        _of_the_whole(experiment),
        _fewer_seeds(experiment, records),
        experiment.note,
        experiment.mark,
    ]
    return (" ".join(filter(None, parts)),)


def _of_the_whole(experiment: Experiment) -> str:
    declared = len(EXPERIMENTS[experiment.name].rows) if experiment.name in EXPERIMENTS else 0
    if len(experiment.rows) >= declared:
        return ""
    return f"Part of the table: {len(experiment.rows)} of {declared} cells."


def _fewer_seeds(experiment: Experiment, records: Sequence[Measurement]) -> str:
    most = max((len(record.seeds) for record in records), default=0)
    if experiment.runs == 1 or not most or most >= experiment.runs:
        return ""
    return f"Seeds: {most}, the paper's mean is over {experiment.runs}."


def _title(experiment: Experiment) -> str:
    return f"{experiment.title} (reduced)" if experiment.reduced else experiment.title


def _seeds(records: Sequence[Measurement]) -> str:
    counts = sorted({len(record.seeds) for record in records if record.seeds})
    return " to ".join(map(str, (counts[0], counts[-1]))) if len(counts) > 1 else _one(counts)


def _one(counts: Sequence[int]) -> str:
    return str(counts[0]) if counts else NOTHING


def _ours(record: Measurement | None) -> str:
    if record is None or record.ours is None:
        return NOTHING
    return f"{record.ours:.2f} ({record.low:.2f}–{record.high:.2f})"


def _both(record: Measurement | None) -> str:
    """The paper's number / ours (interval; n seeds)."""
    if record is None:
        return NOTHING
    ours = NOTHING
    if record.ours is not None:
        ours = f"{record.ours:.2f} ({record.low:.2f}–{record.high:.2f}; {len(record.seeds)})"
    return ours if record.paper is None else f"{record.paper} / {ours}"


def _plain(value: object) -> str:
    if isinstance(value, tuple):
        return " ".join(map(str, value))
    return "" if value is None else str(value)
