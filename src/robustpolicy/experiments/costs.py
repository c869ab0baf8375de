"""What a sweep costs: FLOPs, counted; time, from what finished cells took or a short measurement.

No torch here, unless something is measured.
"""

from __future__ import annotations

import platform
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from robustpolicy.experiments.cells import Cell, surrogates
from robustpolicy.experiments.paper import IMAGES, Measure
from robustpolicy.experiments.results import Results, samples_of
from robustpolicy.training.fork import prefix_of
from robustpolicy.training.recipe import Recipe, Trades, TwoStage

#: Floating-point operations of an image: forward, training step, input gradient.
FLOPS = {
    "lenet5": (0.833e6, 2.264e6, 1.666e6),
    "small-cnn": (19.90e6, 59.33e6, 39.81e6),
    "vgg13": (456.5e6, 1366e6, 913.1e6),
    "resnet18": (1111e6, 3329e6, 2222e6),
}
#: Passes of each attack over an image that withstands to the end: forward ones, gradients.
#: An image leaves earlier, so that a sum of these is a bound.
_PASSES = {
    "clean": (1, 0),
    "fgsm": (1, 1),
    "pgd": (1, 40),
    "transfer": (1, 40),
    "apgd-ce": (1, 100),
    "apgd-dlr": (1, 100),
    "apgd-t": (1, 900),
    "fab": (100, 1000),
    "fab-t": (900, 900),
    "square": (5000, 0),
    "spsa": (25600, 0),
    "autoattack": (5900, 1900),
}


@dataclass(frozen=True)
class Pace:
    """Seconds that this machine takes for an image, on one thread.

    Attributes:
        train: for a training step.
        gradient: for an input gradient.
    """

    train: float
    gradient: float


def training_flops(recipe: Recipe, epochs: int | None = None) -> float:
    """Operations of a training over these epochs, its inner attack included."""
    return _steps(recipe, epochs) * _step_flops(recipe)


def measure_flops(measure: Measure, recipe: Recipe) -> float:
    """Operations of a measure, at most."""
    forward, _, gradient = _flops(recipe)
    forwards, gradients = _passes(measure)
    return samples_of(measure, recipe) * (forwards * forward + gradients * gradient)


def sweep_flops(cells: Sequence[Cell], share: bool) -> float:
    """Operations of all that is to be done; shared epochs that are known count once."""
    total = sum(measure_flops(m, cell.recipe) for cell in cells for m in cell.measures)
    return total + sum(
        training_flops(recipe, epochs) for recipe, epochs in _trainings(cells, share)
    )


class Clock:
    """How long cells take on this machine.

    Args:
        results: finished cells; those of other processors say nothing.
        paces: measured before, by (data set, model); see :func:`measure_pace`.
    """

    def __init__(self, results: Results, paces: dict[tuple[str, str], Pace] | None = None) -> None:
        self._paces = paces or {}
        self._steps: dict[tuple[Any, ...], list[float]] = {}
        self._measures: dict[tuple[Any, ...], list[float]] = {}
        self._results = results
        here = cpu_name()
        for recipe in results:
            for result in results.of(recipe):
                environment = result.get("environment", {})
                known = recipe.dataset in IMAGES
                if known and environment.get("cpu") == here and environment.get("device") == "cpu":
                    self._learn(recipe, result)

    def _learn(self, recipe: Recipe, result: dict[str, Any]) -> None:
        training = result["training"]
        images = _steps(recipe, len(training["loss"]))
        if images:
            self._steps.setdefault(_kind(recipe), []).append(training["seconds"] / images)

    def unknown(self, cells: Sequence[Cell]) -> list[Recipe]:
        """One recipe of each data set and model of which nothing is known yet."""
        found: dict[tuple[str, str], Recipe] = {}
        for cell in cells:
            place = (cell.recipe.dataset, cell.recipe.model)
            if _kind(cell.recipe) not in self._steps and place not in self._paces:
                found.setdefault(place, cell.recipe)
        return list(found.values())

    def seconds(self, cells: Sequence[Cell], share: bool) -> float | None:
        """Seconds of one process for all that is to be done; None where nothing is known."""
        total = 0.0
        for recipe, epochs in _trainings(cells, share):
            one = self._step(recipe)
            if one is None:
                return None
            total += _steps(recipe, epochs) * one
        for cell in cells:
            for measure in cell.measures:
                one = self._measure(measure, cell.recipe)
                if one is None:
                    return None
                total += one
        return total

    def _step(self, recipe: Recipe) -> float | None:
        known = self._steps.get(_kind(recipe))
        if known:
            return median(known)
        pace = self._paces.get((recipe.dataset, recipe.model))
        return pace.train * _step_flops(recipe) / _flops(recipe)[1] if pace else None

    def _measure(self, measure: Measure, recipe: Recipe) -> float | None:
        key = (measure, recipe.model)
        if key not in self._measures:
            found = (
                self._results.find(one, measure)
                for one in self._results
                if (one.dataset, one.model) == (recipe.dataset, recipe.model)
            )
            self._measures[key] = [one.entry["seconds"] / one.n for one in found if one]
        if self._measures[key]:
            return median(self._measures[key]) * samples_of(measure, recipe)
        pace = self._paces.get((recipe.dataset, recipe.model))
        step = pace.gradient if pace else self._gradient(recipe)
        return step and step * measure_flops(measure, recipe) / _flops(recipe)[2]

    def _gradient(self, recipe: Recipe) -> float | None:
        """A gradient's time from that of a training step."""
        known = self._steps.get(_kind(recipe))
        return median(known) * _flops(recipe)[2] / _step_flops(recipe) if known else None


def measure_pace(recipe: Recipe, device: str) -> Pace:
    """Time a few steps on random images, with one thread on a CPU."""
    import time

    import torch
    from torch.nn.functional import cross_entropy

    from robustpolicy.data import get_source
    from robustpolicy.training.environment import resolve_device
    from robustpolicy.training.run import build_recipe_model

    where = resolve_device(device)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    size = recipe.batch_size if FLOPS.get(recipe.model, (1e9,))[0] < 1e8 else 16
    try:
        with torch.random.fork_rng():
            model = build_recipe_model(recipe).to(where)
            images = torch.rand(size, *get_source(recipe.dataset).shape, device=where)
        labels = torch.zeros(size, dtype=torch.int64, device=where)
        taken = []
        for wanted in (list(model.parameters()), [images.requires_grad_()]):
            seconds = []
            for _ in range(4):
                begun = time.perf_counter()
                loss = cross_entropy(model(images), labels)
                float(torch.autograd.grad(loss, wanted)[0].sum())  # waits for the device
                seconds.append(time.perf_counter() - begun)
            taken.append(min(seconds) / size)
    finally:
        torch.set_num_threads(threads)
    return Pace(*taken)


def cpu_name() -> str:
    """The processor as results name it."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _trainings(cells: Sequence[Cell], share: bool) -> Iterable[tuple[Recipe, int]]:
    """Recipes that are still to be trained, and how many epochs of each."""
    prefixes: set[Recipe] = set()
    needed = dict(surrogates(cells, cells[0].run.parent.parent).values()) if cells else {}
    for recipe, run in needed.items():
        if not (run / "DONE").exists():
            yield recipe, recipe.epochs
    for cell in cells:
        if (cell.run / "DONE").exists():
            continue
        loss, epochs = cell.recipe.loss, cell.recipe.epochs
        prefix = prefix_of(cell.recipe) if share else None
        if prefix is not None and isinstance(loss, TwoStage) and loss.switch_epoch:
            epochs -= loss.switch_epoch if prefix in prefixes else 0
            prefixes.add(prefix)
        yield cell.recipe, epochs


def _kind(recipe: Recipe) -> tuple[Any, ...]:
    """What decides how long a step takes."""
    return recipe.dataset, recipe.model, recipe.adversary, recipe.batch_size


def _steps(recipe: Recipe, epochs: int | None = None) -> int:
    """Images that a training takes steps on."""
    images = IMAGES[recipe.dataset][0]
    if recipe.protocol == "standard":
        images -= max(1, round(recipe.validation * images))
    return (recipe.epochs if epochs is None else epochs) * images


def _step_flops(recipe: Recipe) -> float:
    _, train, gradient = _flops(recipe)
    adversary = recipe.adversary
    inner = getattr(adversary, "steps", 0) * gradient
    return inner + train * (2 if isinstance(adversary, Trades) else 1)


def _flops(recipe: Recipe) -> tuple[float, float, float]:
    return FLOPS.get(recipe.model, (0.0, 1.0, 1.0))


def _passes(measure: Measure) -> tuple[int, int]:
    forwards, gradients = _PASSES[measure.attack]
    settings = dict(measure.settings)
    return forwards, settings.get("steps", gradients) if measure.attack == "pgd" else gradients
