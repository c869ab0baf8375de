"""What an experiment is: measures, rows, and how it is reduced. No torch here."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from robustpolicy.errors import UserError
from robustpolicy.training.recipe import Recipe, TwoStage

#: Attacks that ``--attacks`` can name, ``clean`` among them.
ATTACK_NAMES = (
    "clean", "fgsm", "pgd", "apgd-ce", "apgd-dlr", "apgd-t", "fab", "fab-t", "square", "spsa",
    "autoattack", "transfer",
)  # fmt: skip
#: Images of each data set: train, test.
IMAGES = {"digits": (1437, 360), "mnist": (60_000, 10_000), "cifar10": (50_000, 10_000)}
#: Images that attacks beyond the paper's are run on, drawn at random, where a table has no others.
STRONG_SAMPLES = 1000


@dataclass(frozen=True)
class Measure:
    """A column of a table: one attack at one radius.

    Attributes:
        key: short name, one in its row.
        label: heading of its column.
        attack: one of :data:`ATTACK_NAMES`.
        epsilon: radius of the l-infinity ball, inputs in [0, 1].
        settings: of the attack, where they are not its defaults.
        samples: test images, drawn at random; None takes all.
    """

    key: str
    label: str
    attack: str
    epsilon: float
    settings: tuple[tuple[str, Any], ...] = ()
    samples: int | None = None


@dataclass(frozen=True)
class Row:
    """One row of an experiment, or cell of its grid: a recipe without its seed.

    Attributes:
        key: short name, part of file names.
        label: name in tables.
        recipe: what is trained; each seed is a cell.
        measures: what is measured.
        paper: key of a measure -> what the paper prints, as printed; ``"-"`` where it prints a
            dash.
        place: (lambda_1, lambda_2) in a grid.
        against: key of the row that it is compared with, seed by seed; "" if none.
    """

    key: str
    label: str
    recipe: Recipe
    measures: tuple[Measure, ...]
    paper: Mapping[str, str] = field(default_factory=dict)
    place: tuple[float, float] | None = None
    against: str = ""


@dataclass(frozen=True)
class Experiment:
    """A table or figure: its rows, and how it differs from the paper's.

    Attributes:
        name: name on the command line and of its results folder.
        title: heading of its table.
        note: how it differs from the paper's own protocol; empty if it does not.
        rows: its rows.
        runs: seeds of the paper, where it says how many.
        grid: whether rows are cells of a grid of penalties.
        figure: whether it is drawn, not printed.
        count_lost: show how many classes each training lost altogether.
        reduced: how it falls short of what was declared, by ``--epochs``, ``--samples`` or
            ``--attacks``; one entry each.
    """

    name: str
    title: str
    note: str
    rows: tuple[Row, ...]
    runs: int = 1
    grid: bool = False
    figure: bool = False
    count_lost: bool = False
    reduced: tuple[str, ...] = ()

    @property
    def measures(self) -> tuple[Measure, ...]:
        """Measures of all rows, one a key."""
        found = {measure.key: measure for row in self.rows for measure in row.measures}
        return tuple(found.values())

    @property
    def mark(self) -> str:
        """How it is reduced, in words; empty if it is not."""
        return f"Reduced: {'; '.join(self.reduced)}." if self.reduced else ""

    def with_epochs(self, epochs: int) -> Experiment:
        """The same experiment over other epochs, drops scaled, marked as reduced."""
        if all(row.recipe.epochs == epochs for row in self.rows):
            return self
        whole = " and ".join(map(str, sorted({row.recipe.epochs for row in self.rows})))
        rows = [
            dataclasses.replace(row, recipe=row.recipe.with_epochs(epochs)) for row in self.rows
        ]
        return self._reduced(rows, f"{epochs} epochs in place of {whole}")

    def with_samples(self, samples: int) -> Experiment:
        """The same experiment on at most so many test images, marked where these are fewer."""
        for row in self.rows:
            if not 1 <= samples <= IMAGES[row.recipe.dataset][1]:
                raise UserError(
                    f"--samples is {samples}; give a number from 1 to "
                    f"{IMAGES[row.recipe.dataset][1]}"
                )
        rows = [
            dataclasses.replace(
                row, measures=tuple(_fewer(m, samples, row.recipe) for m in row.measures)
            )
            for row in self.rows
        ]
        if all(a == b for a, b in zip(rows, self.rows, strict=True)):
            return self
        return self._reduced(rows, f"at most {samples} test images, drawn at random")

    def with_attacks(self, names: Sequence[str]) -> Experiment:
        """The same experiment under these attacks alone; those that it lacks are added.

        Raises:
            UserError: none, or an unknown one; lists the known ones.
        """
        unknown = [name for name in names if name not in ATTACK_NAMES]
        if unknown or not names:
            given = repr(unknown[0]) if unknown else "nothing"
            raise UserError(f"--attacks has {given}; choose some of {', '.join(ATTACK_NAMES)}")
        rows = [
            dataclasses.replace(row, measures=_chosen(row.measures, dict.fromkeys(names)))
            for row in self.rows
        ]
        left = {m.attack for m in self.measures if any(m.key in row.paper for row in self.rows)}
        missing = [name for name in ATTACK_NAMES if name in left - set(names)]
        if not missing:
            return dataclasses.replace(self, rows=tuple(rows))
        return self._reduced(rows, f"without {', '.join(missing)}")

    def with_penalties(
        self, penalties: Sequence[float], warmup_penalties: Sequence[float] | None = None
    ) -> Experiment:
        """The part of the grid that has these values.

        Args:
            penalties: of both stages (lambda_1 and lambda_2), or of the second alone where
                ``warmup_penalties`` are given, or where the rows differ in nothing else.
            warmup_penalties: of the first stage (lambda_1).

        Raises:
            UserError: no grid, or a value that it does not have.
        """
        pairs = [_penalties(row) for row in self.rows]
        seconds = {pair[1] for pair in pairs if pair}
        firsts = {pair[0] for pair in pairs if pair}
        if len(seconds) < 3:
            raise UserError(f"{self.name} has no grid of penalties; leave --penalties out")
        if len(firsts) == 1:
            if warmup_penalties is not None:
                raise UserError(f"{self.name} has one warm-up; leave --warmup-penalties out")
            warmup_penalties = tuple(firsts)
        wanted = penalties if warmup_penalties is None else warmup_penalties
        _check_known("--penalties", penalties, seconds)
        if len(firsts) > 1:
            flag = "--penalties" if warmup_penalties is None else "--warmup-penalties"
            _check_known(flag, wanted, firsts)
        rows = tuple(
            row
            for row, pair in zip(self.rows, pairs, strict=True)
            if pair is None or (pair[0] in wanted and pair[1] in penalties)
        )
        return dataclasses.replace(self, rows=rows)

    def _reduced(self, rows: Sequence[Row], how: str) -> Experiment:
        return dataclasses.replace(self, rows=tuple(rows), reduced=(*self.reduced, how))


def _penalties(row: Row) -> tuple[float, float] | None:
    loss = row.recipe.loss
    return (loss.warmup_penalty, loss.penalty) if isinstance(loss, TwoStage) else None


def _check_known(flag: str, given: Sequence[float], known: set[float]) -> None:
    unknown = [value for value in given if value not in known]
    if unknown or not given:
        shown = f"{unknown[0]:g}" if unknown else "nothing"
        choices = ", ".join(f"{value:g}" for value in sorted(known))
        raise UserError(f"{flag} has {shown}; choose some of {choices}")


def _fewer(measure: Measure, samples: int, recipe: Recipe) -> Measure:
    own = IMAGES[recipe.dataset][1] if measure.samples is None else measure.samples
    return measure if own <= samples else dataclasses.replace(measure, samples=samples)


def _chosen(measures: tuple[Measure, ...], names: Mapping[str, None]) -> tuple[Measure, ...]:
    """The measures of these attacks; an attack without one is measured at the first radius."""
    kept = [measure for measure in measures if measure.attack in names]
    there = {measure.attack for measure in kept}
    epsilon = measures[0].epsilon
    samples = min((m.samples for m in measures if m.samples), default=STRONG_SAMPLES)
    kept += [
        Measure(name, name.upper(), name, epsilon, samples=samples)
        for name in names
        if name not in there
    ]
    return tuple(kept)
