"""Figure 3: training loss at fixed lambda_2, and a table of how much it fluctuates."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import mean

from robustpolicy.experiments.curves import Curve, training_curves
from robustpolicy.experiments.paper import Experiment
from robustpolicy.experiments.results import Results
from robustpolicy.experiments.statistics import t_interval
from robustpolicy.report.tables import Table
from robustpolicy.training.files import make_folder


def draw_figure3(experiment: Experiment, results: Results, output: Path) -> Table:
    """Draw the figure to ``output``, print and return the table that belongs to it."""
    curves = training_curves(experiment, results)
    table = fluctuation_table(experiment, curves)
    table.print()
    if curves:
        from robustpolicy.report.figures import panels_figure, save_figure

        path = output / f"{experiment.name}.png"
        make_folder(output)
        save_figure(panels_figure(*_panels(curves), experiment.mark), path)
        print(f"Curves of seed {curves[0].seed}: {path}")
    return table


def fluctuation_table(experiment: Experiment, curves: Sequence[Curve]) -> Table:
    """Fluctuation of the second stage's loss, a row a lambda_2."""
    rows = []
    for second in sorted({row.place[1] for row in experiment.rows if row.place}):
        own = [curve for curve in curves if curve.lambda_2 == second and curve.second]
        values = [curve.fluctuation for curve in own]
        shown = f"{mean(values):.5f}" if values else "–"
        if len(values) > 1:
            low, high = t_interval(values)
            shown += f" ({low:.5f}–{high:.5f})"
        rows.append((f"{second:g}", shown, str(len(own))))
    note = (
        "Back and forth of the loss in the second stage, a mean over its epochs: sum of all steps' "
        "lengths less the length of the way from first to last. Mean over lambda_1 and seeds, with "
        "its 95 % t interval."
    )
    title = f"{experiment.title} (reduced)" if experiment.reduced else experiment.title
    notes = (" ".join(filter(None, (note, experiment.note, experiment.mark))),)
    return Table(title, ("lambda_2", "fluctuation", "trainings"), tuple(rows), notes)


def _panels(
    curves: Sequence[Curve],
) -> tuple[list[str], list[dict[str, tuple[Sequence[float], int | None]]]]:
    """Titles, and the first seed's curves of each panel by label."""
    seconds = sorted({curve.lambda_2 for curve in curves})
    first = min(curve.seed for curve in curves)
    panels: list[dict[str, tuple[Sequence[float], int | None]]] = [
        {
            f"lambda_1 = {curve.lambda_1:g}": (curve.losses, curve.second)
            for curve in curves
            if curve.lambda_2 == second and curve.seed == first
        }
        for second in seconds
    ]
    return [f"lambda_2 = {second:g}" for second in seconds], panels
