"""Tables: one description, printed to a terminal or as markdown."""

from __future__ import annotations

import csv
import io
import json
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from robustpolicy.experiments.paper import Experiment
from robustpolicy.experiments.results import evaluations_of, lost_classes, summarise

_LATEX = {
    **{character: f"\\{character}" for character in "&%$#_{}"},
    "\\": "\\textbackslash{}",
    "~": "\\textasciitilde{}",
    "^": "\\textasciicircum{}",
    "–": "--",
}


@dataclass(frozen=True)
class Table:
    """A title, a heading and rows; ``notes`` stand below, ``words`` are the columns of text."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...] = ()
    words: tuple[int, ...] = (0,)

    def markdown(self) -> str:
        """The table in GitHub's markdown, numbers to the right, without the title."""
        rule = tuple("---" if n in self.words else "---:" for n in range(len(self.columns)))
        lines = [self.columns, rule, *self.rows]
        text = "\n".join("| " + " | ".join(line) + " |" for line in lines)
        return text + "".join(f"\n\n{note}" for note in self.notes)

    def csv(self) -> str:
        """The table as comma-separated values, a heading first; no title, no notes."""
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows([self.columns, *self.rows])
        return text.getvalue()

    def latex(self) -> str:
        """The table as a LaTeX ``table``: title as caption, notes below."""
        columns = "".join("l" if n in self.words else "r" for n in range(len(self.columns)))
        lines = [" & ".join(map(_latex, line)) + r" \\" for line in (self.columns, *self.rows)]
        return "\n".join(
            [
                r"\begin{table}",
                rf"\caption{{{_latex(self.title)}}}",
                rf"\begin{{tabular}}{{{columns}}}",
                r"\hline",
                lines[0],
                r"\hline",
                *lines[1:],
                r"\hline",
                r"\end{tabular}",
                *(rf"\par {_latex(note)}" for note in self.notes),
                r"\end{table}",
            ]
        )

    def json(self) -> str:
        """The table as a JSON object: title, columns, rows, notes."""
        data = {"title": self.title, "columns": self.columns, "rows": self.rows}
        return json.dumps({**data, "notes": self.notes}, indent=1, ensure_ascii=False)

    def print(self) -> None:
        """Print to standard output; colours only on a terminal."""
        from rich import box
        from rich.console import Console
        from rich.table import Table as RichTable

        table = RichTable(box=box.SIMPLE_HEAD, collapse_padding=True, pad_edge=False)
        for number, column in enumerate(self.columns):
            table.add_column(column, justify="left" if number in self.words else "right")
        for row in self.rows:
            table.add_row(*row)
        # A pipe has no width: a file or a log takes the whole line. Names may hold brackets.
        width = None if sys.stdout.isatty() else 320
        console = Console(width=width, markup=False, emoji=False)
        if self.title:  # not Rich's own, which it folds to the width of the columns
            console.print(self.title, soft_wrap=True, highlight=False, style="italic")
        console.print(table)
        for note in self.notes:
            console.print(note, soft_wrap=True, highlight=False)


def experiment_table(experiment: Experiment, results: dict[str, list[dict[str, Any]]]) -> Table:
    """Our numbers over seeds, and the paper's below each row that has them. Percent.

    Where the experiment asks for it, a column counts the classes lost altogether, seed by seed.
    """
    attacks = {"clean": "clean", "fgsm": "FGSM", "pgd": "PGD-40"}
    rows: list[tuple[str, ...]] = []
    n = 0
    epsilon = None
    counts = experiment.count_lost
    for row in experiment.rows:
        cells = results[row.key]
        if not cells:
            continue
        first = evaluations_of(cells[0])[0]
        n, epsilon = first["n"], first["threat"]["epsilon"]
        measured = [str(summarise(cells, attack) or "-") for attack in attacks]
        lost = (", ".join(str(lost_classes(cell)) for cell in cells),) if counts else ()
        rows.append((row.label, *measured, *lost, str(len(cells))))
        if row.paper:
            blank = ("",) if counts else ()
            rows.append((f"{row.label}, paper", *_printed(row.paper, attacks), *blank, ""))
    notes = [f"Percent of {n} test images; eps {epsilon}; PGD: 40 steps of 0.01, random start."]
    if any(len(cells) > 1 for cells in results.values()):
        notes.append("Mean over seeds (least to greatest).")
    notes += filter(None, (experiment.note, experiment.mark))
    columns = ("training", *attacks.values(), *(("classes lost",) if counts else ()), "seeds")
    return Table(experiment.title, columns, tuple(rows), (" ".join(notes),))


def evaluation_table(title: str, evaluation: dict[str, Any]) -> Table:
    """Robust accuracy, 95 % interval and cost of each attack of one evaluation."""
    rows = []
    for name, result in evaluation["attacks"].items():
        rows.append(_result_row(name, result, f"{result['seconds']:.1f}"))
    if len(rows) > 1:
        rows.append(_result_row("worst case", evaluation["worst_case"], ""))
    threat = evaluation["threat"]
    notes = (
        f"{evaluation['n']} of {evaluation['dataset']}'s test images ({evaluation['samples']}); "
        f"{threat['norm']} eps {threat['epsilon']:g} in [{threat['low']:g}, {threat['high']:g}]; "
        "Wilson intervals.",
    )
    columns = ("attack", "robust accuracy %", "95 % interval", "seconds")
    return Table(title, columns, tuple(rows), notes)


def audit_table(audit: dict[str, Any]) -> Table:
    """The checks of an audit, what each says, and the time it took."""
    marks = {True: "pass", False: "FAIL", None: "-"}
    rows = tuple(
        (check["name"], marks[check["passed"]], f"{check['seconds']:.0f}", check["explanation"])
        for check in audit["checks"]
    )
    threat = audit["threat"]
    note = (
        f"{audit['n']} test images of {audit['dataset']}; {threat['norm']} eps "
        f"{threat['epsilon']:g} in [{threat['low']:g}, {threat['high']:g}]; "
        f"{audit['seconds']:.0f} s"
    )
    columns = ("check", "", "seconds", "what it says")
    return Table(audit["target"], columns, rows, (note,), words=(0, 1, 3))


def _result_row(name: str, result: dict[str, Any], seconds: str) -> tuple[str, ...]:
    low, high = result["interval"]
    accuracy = f"{100 * result['robust_accuracy']:.2f}"
    return name, accuracy, f"{100 * low:.2f} to {100 * high:.2f}", seconds


def _printed(paper: Mapping[str, str], attacks: Mapping[str, str]) -> tuple[str, ...]:
    return tuple(paper.get(attack, "-") for attack in attacks)


def _latex(text: str) -> str:
    escaped = "".join(_LATEX.get(character, character) for character in text)
    return re.sub(r"lambda\\_(\d)", r"$\\lambda_\1$", escaped)
