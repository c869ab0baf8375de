"""What there are results of, in one table."""

from __future__ import annotations

from robustpolicy.experiments.paper import EXPERIMENTS
from robustpolicy.experiments.results import Results
from robustpolicy.experiments.variants import variants
from robustpolicy.report.tables import Table


def overview_table(results: Results) -> Table:
    """A line for each form of each experiment that there are results of."""
    rows = []
    for experiment in EXPERIMENTS.values():
        for form in variants(experiment, results):
            recipes = [(row, results.seeds(row)) for row in form.rows]
            there = [(row, seeds) for row, seeds in recipes if seeds]
            count = sum(len(seeds) for _, seeds in there)
            whole = sum(
                results.done(recipe, row.measures) for row, seeds in there for recipe in seeds
            )
            most = max(len(seeds) for _, seeds in there)
            rows.append(
                (
                    form.name,
                    f"{len(there)} of {len(form.rows)}",
                    f"{most} of {form.runs}" if form.runs > 1 else str(most),
                    f"{whole} of {count}",
                    "; ".join(form.reduced) or "no",
                )
            )
    columns = ("experiment", "rows", "seeds", "wholly measured", "reduced")
    note = "Wholly measured: trained, and every measure of the table taken on all its images."
    return Table("Results", columns, tuple(rows), (note,), words=(0, 4))
