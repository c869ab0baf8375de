"""Progress on standard error: bars on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from robustpolicy.experiments.cells import Cell
from robustpolicy.experiments.sweep import progress_of
from robustpolicy.training.monitor import Monitor
from robustpolicy.training.recipe import Recipe


def _bars(unit: str) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn(unit),
        TimeRemainingColumn(),
        TextColumn("{task.fields[text]}"),
        console=Console(stderr=True),
    )


class TrainingMonitor(Monitor):
    """A bar over all steps with epoch, stage, loss, accuracy and ETA; without a terminal, a line
    an epoch.
    """

    def __init__(self, *, quiet: bool = False) -> None:
        self._live = sys.stderr.isatty() and not quiet
        self._quiet = quiet
        self._bar = _bars("steps")
        self._steps = 0
        self._recipe: Recipe | None = None
        self._task: Any = None

    def __enter__(self) -> TrainingMonitor:
        """Nothing is drawn before training starts."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Leave the terminal tidy."""
        if self._task is not None:
            self._bar.stop()

    def start(self, recipe: Recipe, epoch: int, steps: int) -> None:
        """Draw the bar."""
        self._recipe, self._steps = recipe, steps
        if self._live:
            self._task = self._bar.add_task(
                f"epoch {epoch + 1}/{recipe.epochs}",
                total=recipe.epochs * steps,
                completed=epoch * steps,
                text="",
            )
            self._bar.start()
        elif epoch and not self._quiet:
            print(f"going on after epoch {epoch}", file=sys.stderr, flush=True)

    def step(self) -> None:
        """Advance the bar."""
        if self._live:
            self._bar.advance(self._task)

    def epoch(self, record: dict[str, Any]) -> None:
        """Show an epoch's numbers."""
        assert self._recipe is not None
        stage = f"stage {record['stage']}  " if "stage" in record else ""
        text = (
            f"{stage}loss {record['loss']:.4f}  accuracy {100 * record['watched_accuracy']:.2f} %"
        )
        epochs = self._recipe.epochs
        if self._live:
            following = min(record["epoch"] + 1, epochs)
            self._bar.update(
                self._task,
                description=f"epoch {following}/{epochs}",
                completed=record["epoch"] * self._steps,
                text=text,
            )
        elif not self._quiet:
            line = f"epoch {record['epoch']}/{epochs}  {text}  {record['seconds']:.1f} s"
            print(line, file=sys.stderr, flush=True)

    def warn(self, message: str) -> None:
        """Print a warning."""
        print(f"warning: {message}", file=sys.stderr, flush=True)


class _Remaining:
    """Now and then, a line with how far an attack is and about how long it will take."""

    #: Seconds between two lines.
    INTERVAL = 30.0

    def __init__(self) -> None:
        self._begun: dict[str, tuple[float, float]] = {}  # attack -> when, with how much done
        self._said = time.perf_counter()

    def __call__(self, attack: str, done: float, total: int) -> None:
        now = time.perf_counter()
        begun, before = self._begun.setdefault(attack, (now, done))
        if now - self._said >= self.INTERVAL and done > before:
            self._said = now
            left = (now - begun) * (total - done) / (done - before)
            print(
                f"{attack}: {int(done)} of {total} samples, about {left:.0f} s left",
                file=sys.stderr,
                flush=True,
            )


class _Attacking:
    """What evaluations and audits draw: bars, or now and then a line."""

    def __init__(self, unit: str, *, quiet: bool = False) -> None:
        self._live = sys.stderr.isatty() and not quiet
        self._quiet = quiet
        self._bar = _bars(unit)
        self._remaining = _Remaining()

    def __enter__(self) -> Self:
        """Begin drawing."""
        if self._live:
            self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Stop drawing."""
        if self._live:
            self._bar.stop()


class EvaluationProgress(_Attacking):
    """A bar an attack; without a terminal, a line every half minute and one at its end."""

    def __init__(self, *, quiet: bool = False) -> None:
        super().__init__("samples", quiet=quiet)
        self._tasks: dict[str, Any] = {}

    def __call__(self, attack: str, done: float, total: int) -> None:
        """Show the progress of an attack; samples of a running batch count in part."""
        if self._live:
            if attack not in self._tasks:
                self._tasks[attack] = self._bar.add_task(attack, total=total, text="")
            self._bar.update(self._tasks[attack], completed=int(done))
        elif done == total and not self._quiet:
            print(f"{attack}: {total} samples done", file=sys.stderr, flush=True)
        elif not self._quiet:
            self._remaining(attack, done, total)


class AuditProgress(_Attacking):
    """A bar over the checks, with the attack that runs; without a terminal, a line a check, and
    one every half minute within it.
    """

    def __init__(self, *, quiet: bool = False) -> None:
        super().__init__("checks", quiet=quiet)
        self._task: Any = None

    def on_check(self, title: str, number: int, of: int) -> None:
        """Show the check that begins."""
        if self._live:
            if self._task is None:
                self._task = self._bar.add_task(title, text="")
            self._bar.update(self._task, description=title, completed=number, total=of)
        elif not self._quiet:
            print(f"check {number + 1} of {of}: {title}", file=sys.stderr, flush=True)

    def __call__(self, attack: str, done: float, total: int) -> None:
        """Show how far an attack is."""
        if self._live and self._task is not None:
            self._bar.update(self._task, text=f"{attack}: {int(done)} of {total} samples")
        elif not self._quiet:
            self._remaining(attack, done, total)


class SweepProgress:
    """A bar over all cells and one for each that trains, read from the run folders; without a
    terminal, a line when a cell changes.
    """

    def __init__(self, cells: Sequence[Cell]) -> None:
        self._open = {cell.name: cell for cell in cells}
        self._live = sys.stderr.isatty()
        self._bar = _bars("")
        self._begun = time.perf_counter()
        self._said: dict[str, str] = {}
        self._tasks: dict[str, Any] = {}
        self._all: Any = None

    def __enter__(self) -> SweepProgress:
        """Begin drawing."""
        if self._live:
            self._all = self._bar.add_task("cells", total=len(self._open), text="")
            self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Show the last state and stop drawing."""
        self()
        if self._live:
            self._bar.stop()

    def done(self, name: str) -> None:
        """A cell is done, and its folder need not be read any more; or what cells share is."""
        shared = self._open.pop(name, None) is None
        if self._live and not shared:
            self._bar.advance(self._all)
            if name in self._tasks:
                self._bar.remove_task(self._tasks.pop(name))
        elif not self._live:
            self._say(name, "done")

    def __call__(self) -> None:
        """Read the run folders and show where each cell is."""
        for name, cell in self._open.items():
            doing, epochs = progress_of(cell)
            if not self._live:
                self._say(name, doing)
            elif doing != "waiting":
                if name not in self._tasks:
                    self._tasks[name] = self._bar.add_task(name, total=cell.recipe.epochs, text="")
                self._bar.update(self._tasks[name], completed=epochs, text=doing)

    def _say(self, name: str, doing: str) -> None:
        if self._said.get(name, "waiting") != doing:
            self._said[name] = doing
            seconds = time.perf_counter() - self._begun
            print(f"{seconds:6.0f} s  {name}: {doing}", file=sys.stderr, flush=True)
